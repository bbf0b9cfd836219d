# What is applied on this machine: written only when every state of the run succeeded.
/etc/ostack-k8s/applied:
  file.serialize:
    - serializer: json
    - dataset: {{ pillar["ostack_k8s"] | json }}
    - makedirs: true
    - order: last
    - require:
{%- for application in pillar["_reclass_"]["applications"] %}
      - sls: {{ application }}
{%- endfor %}
