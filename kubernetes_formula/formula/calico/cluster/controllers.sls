{%- from "bundle/macros.jinja" import installed with context %}
{%- from "calico/map.jinja" import calico with context %}
{%- from "kubernetes/macros.jinja" import kubeconfig with context %}
{%- from "pki/macros.jinja" import certificate with context %}
{%- from "systemd/confined.jinja" import confined %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - calico.cluster.access
  - calico.cluster.types
  - kubernetes.authority

{%- set file = "/etc/calico/kube-controllers.kubeconfig" %}
{{ installed("calico-kube-controllers", {"": "/usr/local/bin/calico-kube-controllers"}) }}
{{ installed("calicoctl", {"": "/usr/local/bin/calicoctl"}) }}
{{ certificate("calico-kube-controllers", "/etc/calico/pki") }}
{{ kubeconfig(file, "https://127.0.0.1:6443", "/etc/calico/pki/calico-kube-controllers") }}

{{ daemon("calico-kube-controllers", {
  "description": "Calico: addresses of what is gone",
  "command": "/usr/local/bin/calico-kube-controllers -status-file=/run/calico-kube-controllers/status.json",
  "after": ["kube-apiserver"],
  "service": salt["slsutil.merge_all"]([confined("root", ["/run/calico-kube-controllers"]) | load_json, {
    "Environment": "DATASTORE_TYPE=kubernetes ENABLED_CONTROLLERS=" ~ ("node,loadbalancer" if calico.balancer.cidr else "node") ~ " LOG_LEVEL=warning KUBECONFIG=" ~ file,
    "RuntimeDirectory": "calico-kube-controllers",
  }, calico.service["kube-controllers"]]),
}, [
  {"artifact": "calico-kube-controllers"},
  {"file": file},
  {"file": "/etc/calico/pki/calico-kube-controllers*"},
  {"file": "/etc/kubernetes/pki/ca.crt"},
]) }}
    - require:
      - kubernetes_object: access of Calico
      - wait: the API knows Calico's kinds
