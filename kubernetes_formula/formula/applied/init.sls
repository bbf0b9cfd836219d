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

{#- asked here and not by `unless`, for which Salt would load every state there is: a second in each run -#}
{%- set path = "/etc/ostack-k8s/applied" %}
{%- set same = salt["file.file_exists"](path) and salt["file.search"](path, '"underlay": *"' ~ applied.underlay ~ '"')
  and salt["file.search"](path, '"version": *"' ~ applied.version | regex_escape ~ '"') %}
{{ path }}:
{%- if same %}
  file.exists:
{%- else %}
  file.serialize:
    - serializer: json
    - dataset: {{ applied | json }}
    - makedirs: true
{%- endif %}
    - order: last
    - require:
{%- for application in applications %}
      - sls: {{ application }}
{%- endfor %}
