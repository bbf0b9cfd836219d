# What is applied on this machine: written only when every state of the run succeeded. A machine that runs pods also notes
# it on its Node, where `ostack-k8s deploy` looks before it puts pods there. A commit that leaves the underlay as it is
# changes nothing here: `revision` is the one that this machine's underlay came with.
{%- set applied = pillar["ostack_k8s"] %}
{%- set applications = pillar["_reclass_"]["applications"] %}
{%- if "kubernetes.pool" in applications %}
include:
  - kubernetes.kubectl

{{ grains.id }} notes what is applied:
  kubernetes_node.noted:
    - name: {{ grains.id }}
    - annotations: {ostack-k8s.io/applied: {{ applied.underlay | json }}}
    - order: last
    - require:
      - file: /etc/ostack-k8s/applied
{%- endif %}

/etc/ostack-k8s/applied:
  file.serialize:
    - serializer: json
    - dataset: {{ applied | json }}
    - makedirs: true
    - unless: grep -q '"underlay":.*"{{ applied.underlay }}"' /etc/ostack-k8s/applied && grep -q '"version":.*"{{ applied.version }}"' /etc/ostack-k8s/applied
    - order: last
    - require:
{%- for application in applications %}
      - sls: {{ application }}
{%- endfor %}
