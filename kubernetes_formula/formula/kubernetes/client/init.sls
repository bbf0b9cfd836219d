# kubernetes.client: kubectl for root, as the cluster's administrator.
{%- from "kubernetes/macros.jinja" import kubeconfig with context %}
{%- from "kubernetes/map.jinja" import kubernetes with context %}
{%- from "pki/macros.jinja" import certificate with context %}
include:
  - kubernetes.authority
  - kubernetes.gateway
  - kubernetes.kubectl

{{ certificate("admin", "/etc/kubernetes/pki") }}
{{ kubeconfig("/etc/kubernetes/admin.kubeconfig", kubernetes.common.server, "/etc/kubernetes/pki/admin") }}

/root/.kube/config:
  file.symlink:
    - target: /etc/kubernetes/admin.kubeconfig
    - makedirs: true
