# Labels and taints of the machines, from the model's list. Runs last: this machine may itself join in the same run.
{%- from "kubernetes/map.jinja" import kubernetes with context %}
include:
  - kubernetes.master.ready

{%- for name, node in kubernetes.common.node | dictsort if node is not none %}
{%- set labels = {} %}
{%- for role, wanted in node.get("role", {}) | dictsort if wanted is not none %}
{%-   do labels.update({"ostack-k8s.io/role-" ~ role: "true"}) %}
{%- endfor %}
node {{ name }}:
  kubernetes_node.reconciled:
    - name: {{ name }}
    - labels: {{ labels | json }}
    - taints: {{ node.get("taint", {}) | json }}
    - joins: {{ (name == grains.id) | json }}
    - order: last
    - require:
      - wait: the API is ready
{% endfor %}
