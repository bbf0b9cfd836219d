# What Calico's three programs may do; they come with certificates of the model, no service accounts are needed.
include:
  - kubernetes.master.ready

{#- globalfelixconfigs is no kind any more, but startup asks for it, and takes "forbidden" for an error -#}
{%- set crd, read = "crd.projectcalico.org", ["get", "list", "watch"] %}
{%- set change = ["get", "list", "create", "update", "delete"] %}
{%- set rules = {
  "calico-node": [
    {"apiGroups": [""], "resources": ["endpoints", "namespaces", "nodes", "pods", "serviceaccounts", "services"], "verbs": read},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch", "update"]},
    {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": read},
    {"apiGroups": ["policy.networking.k8s.io"], "resources": ["adminnetworkpolicies", "baselineadminnetworkpolicies"], "verbs": read},
    {"apiGroups": [crd], "verbs": read, "resources": [
      "bgpconfigurations", "bgpfilters", "bgppeers", "blockaffinities", "caliconodestatuses", "clusterinformations", "felixconfigurations",
      "globalbgpconfigs", "globalfelixconfigs", "globalnetworkpolicies", "globalnetworksets", "hostendpoints", "ipamblocks", "ippools",
      "ipreservations", "networkpolicies", "networksets", "stagedglobalnetworkpolicies", "stagedkubernetesnetworkpolicies",
      "stagednetworkpolicies", "tiers"]},
    {"apiGroups": [crd], "resources": ["clusterinformations", "felixconfigurations", "ippools"], "verbs": ["create", "update"]},
    {"apiGroups": [crd], "resources": ["tiers"], "verbs": ["create"]},
    {"apiGroups": [crd], "resources": ["caliconodestatuses"], "verbs": ["update"]},
    {"apiGroups": [crd], "resources": ["blockaffinities", "ipamblocks", "ipamhandles"], "verbs": change},
    {"apiGroups": [crd], "resources": ["ipamconfigs"], "verbs": ["get", "create"]},
  ],
  "calico-cni": [
    {"apiGroups": [""], "resources": ["namespaces", "nodes", "pods"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
    {"apiGroups": [crd], "resources": ["clusterinformations", "ippools", "ipreservations"], "verbs": ["get", "list"]},
    {"apiGroups": [crd], "resources": ["blockaffinities", "ipamblocks", "ipamconfigs", "ipamhandles"], "verbs": change},
  ],
  "calico-kube-controllers": [
    {"apiGroups": [""], "resources": ["namespaces", "nodes", "pods"], "verbs": read},
    {"apiGroups": [""], "resources": ["services", "services/status"], "verbs": read + ["update"]},
    {"apiGroups": [crd], "resources": ["ippools", "ipreservations"], "verbs": read},
    {"apiGroups": [crd], "verbs": change + ["watch"], "resources": [
      "blockaffinities", "clusterinformations", "hostendpoints", "ipamblocks", "ipamconfigs", "ipamhandles", "kubecontrollersconfigurations",
      "tiers"]},
  ],
} %}
namespace of Calico:
  kubernetes_object.present:
    - require:
      - wait: the API is ready
    - objects:
      - apiVersion: v1
        kind: Namespace
        metadata: {name: calico-system}

access of Calico:
  kubernetes_object.present:
    - require:
      - kubernetes_object: namespace of Calico
    - objects:
{%- for name, rule in rules | dictsort %}
      - apiVersion: rbac.authorization.k8s.io/v1
        kind: ClusterRole
        metadata: {name: {{ name }}}
        rules: {{ rule | json }}
      - apiVersion: rbac.authorization.k8s.io/v1
        kind: ClusterRoleBinding
        metadata: {name: {{ name }}}
        roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ name }}}
        subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: {{ name }}}]
{%- endfor %}
      # the passwords of BGP peers are the only Secrets in there
      - apiVersion: rbac.authorization.k8s.io/v1
        kind: Role
        metadata: {name: calico-node, namespace: calico-system}
        rules: [{apiGroups: [''], resources: [secrets], verbs: [get, list, watch]}]
      - apiVersion: rbac.authorization.k8s.io/v1
        kind: RoleBinding
        metadata: {name: calico-node, namespace: calico-system}
        roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: calico-node}
        subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: calico-node}]
