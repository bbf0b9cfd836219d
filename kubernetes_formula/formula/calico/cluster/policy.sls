# Who may reach the pods of a namespace. The machines themselves always may, for probes; what the model does not name may not.
# Pods that say for each port who may have a NetworkPolicy of their own, and this label.
{%- from "calico/map.jinja" import calico with context %}
include:
  - calico.cluster.types

{%- set policies = {} %}
{%- for name, policy in calico.policy | dictsort if policy is not none %}
{%-   set namespaces = policy.get("from", {}) | dictsort | rejectattr(1, "none") | map("first") | list %}
{%-   set networks = policy.get("network", {}) | dictsort | rejectattr(1, "none") | map("last") | list %}
{%-   set ingress = [] %}
{%-   if namespaces %}
{%-     do ingress.append({"action": "Allow", "source": {"namespaceSelector": "kubernetes.io/metadata.name in { '" ~ namespaces | join("', '") ~ "' }"}}) %}
{%-   endif %}
{%-   if networks %}
{%-     do ingress.append({"action": "Allow", "source": {"nets": networks}}) %}
{%-   endif %}
{%-   do policies.update({"default." ~ name: {
       "tier": "default",
       "order": 1000,
       "namespaceSelector": "kubernetes.io/metadata.name == '" ~ policy.namespace ~ "'",
       "selector": "!has(ostack-k8s.io/guarded)",
       "types": ["Ingress"],
       "ingress": ingress,
     }}) %}
{%- endfor %}
{%- if policies %}
policy of the model:
  kubernetes_object.present:
    - require:
      - wait: the API knows Calico's kinds
    - objects:
{%- for name, spec in policies | dictsort %}
      - apiVersion: crd.projectcalico.org/v1
        kind: GlobalNetworkPolicy
        metadata: {name: {{ name }}, labels: {app.kubernetes.io/managed-by: ostack-k8s}}
        spec: {{ spec | json }}
{%- endfor %}
{%- endif %}

no other policy of the model:
  kubernetes_object.only:
    - kind: globalnetworkpolicies.crd.projectcalico.org
    - keep: {{ policies | sort | json }}
    - selector: app.kubernetes.io/managed-by=ostack-k8s
    - require:
      - wait: the API knows Calico's kinds
