# What is applied on this machine: written only when every state of the run succeeded. A commit that leaves the underlay
# as it is changes nothing here: `revision` is the one that this machine's underlay came with.
{%- set applied = pillar["ostack_k8s"] %}
/etc/ostack-k8s/applied:
  file.serialize:
    - serializer: json
    - dataset: {{ applied | json }}
    - makedirs: true
    - unless: grep -q '"underlay":.*"{{ applied.underlay }}"' /etc/ostack-k8s/applied && grep -q '"version":.*"{{ applied.version }}"' /etc/ostack-k8s/applied
    - order: last
    - require:
{%- for application in pillar["_reclass_"]["applications"] %}
      - sls: {{ application }}
{%- endfor %}
