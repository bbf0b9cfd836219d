# Who may do what: kubelets join with the token, get a client certificate and renew it; the API server may ask kubelets.
include:
  - kubernetes.master.ready

{%- set token = pillar["pki"]["secret"]["kubelet-bootstrap-token"]["value"] or "." %}
{%- set id, secret = token.split(".") %}
{%- set bindings = {
  "kubelet-bootstrap": ["system:node-bootstrapper", "Group", "system:bootstrappers"],
  "kubelet-first-certificate": ["system:certificates.k8s.io:certificatesigningrequests:nodeclient", "Group", "system:bootstrappers"],
  "kubelet-next-certificate": ["system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "Group", "system:nodes"],
  "apiserver-to-kubelet": ["system:kubelet-api-admin", "User", "kube-apiserver-kubelet-client"],
} %}
access of the machines:
  kubernetes_object.present:
    - require:
      - wait: the API is ready
    - objects:
{%- for name, (role, kind, subject) in bindings | dictsort %}
      - apiVersion: rbac.authorization.k8s.io/v1
        kind: ClusterRoleBinding
        metadata: {name: 'ostack-k8s:{{ name }}'}
        roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: '{{ role }}'}
        subjects: [{apiGroup: rbac.authorization.k8s.io, kind: {{ kind }}, name: '{{ subject }}'}]
{%- endfor %}
      - apiVersion: v1
        kind: Secret
        metadata: {name: 'bootstrap-token-{{ id }}', namespace: kube-system}
        type: bootstrap.kubernetes.io/token
        data:
          token-id: {{ id | base64_encode }}
          token-secret: {{ secret | base64_encode }}
          usage-bootstrap-authentication: {{ "true" | base64_encode }}
