# What is applied on this machine: written only when every state of the run succeeded. A machine that runs pods also notes
# it on its Node, where `ostack-k8s deploy` looks before it puts pods there.
{%- set applications = pillar["_reclass_"]["applications"] %}
{%- if "kubernetes.pool" in applications %}
include:
  - kubernetes.kubectl

{{ grains.id }} notes what is applied:
  kubernetes_node.noted:
    - name: {{ grains.id }}
    - annotations: {ostack-k8s.io/applied: {{ pillar["ostack_k8s"]["underlay"] | json }}}
    - order: last
    - require:
      - file: /etc/ostack-k8s/applied
{%- endif %}

/etc/ostack-k8s/applied:
  file.serialize:
    - serializer: json
    - dataset: {{ pillar["ostack_k8s"] | json }}
    - makedirs: true
    - order: last
    - require:
{%- for application in applications %}
      - sls: {{ application }}
{%- endfor %}
