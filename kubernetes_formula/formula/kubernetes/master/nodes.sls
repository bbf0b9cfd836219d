# Labels and taints of the machines, from the model's list; a node that is no machine of the model goes.
# Runs last: this machine may itself join in the same run.
{%- from "calico/map.jinja" import reflectors with context %}
{%- from "kubernetes/map.jinja" import kubernetes with context %}
include:
  - kubernetes.master.ready

{%- for name, node in kubernetes.common.node | dictsort if node is not none %}
{%- set labels, annotations = {}, {} %}
{%- for role, wanted in node.get("role", {}) | dictsort if wanted is not none %}
{%-   do labels.update({"ostack-k8s.io/role-" ~ role: "true"}) %}
{%- endfor %}
{%- if node.get("rack") %}
{%-   do labels.update({"ostack-k8s.io/rack": node.rack}) %}
{%- endif %}
{%- if name in reflectors %}
{%-   do labels.update({"ostack-k8s.io/route-reflector": "true"}) %}
{%- endif %}
node {{ name }}:
  kubernetes_node.reconciled:
    - name: {{ name }}
    - labels: {{ labels | json }}
    - annotations: {projectcalico.org/RouteReflectorClusterID: {{ ("244.0.0.1" if name in reflectors else none) | json }}}
    - taints: {{ node.get("taint", {}) | json }}
    - joins: {{ (name == grains.id) | json }}
    - order: last
    - require:
      - wait: the API is ready
{% endfor %}
no other nodes:
  kubernetes_node.only:
    - keep: {{ kubernetes.common.node | dictsort | rejectattr(1, "none") | map("first") | list | json }}
    - order: last
    - require:
      - wait: the API is ready
