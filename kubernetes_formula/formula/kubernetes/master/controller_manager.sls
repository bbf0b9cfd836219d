{%- from "kubernetes/macros.jinja" import binary, kubeconfig with context %}
{%- from "kubernetes/map.jinja" import kubernetes with context %}
{%- from "systemd/confined.jinja" import confined %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - kubernetes.authority
  - kubernetes.master.pki

{%- set file = "/etc/kubernetes/controller-manager.kubeconfig" %}
{{ binary("kube-controller-manager") }}
{{ kubeconfig(file, "https://127.0.0.1:6443", "/etc/kubernetes/pki/controller-manager", user="kubernetes") }}

{%- set flags = {
  "allocate-node-cidrs": true,
  "authentication-kubeconfig": file,
  "authorization-kubeconfig": file,
  "bind-address": "127.0.0.1",
  "cluster-cidr": kubernetes.common.pod_network,
  "cluster-signing-cert-file": "/etc/kubernetes/pki/ca.signing.crt",
  "cluster-signing-key-file": "/etc/kubernetes/pki/ca.key",
  "kubeconfig": file,
  "leader-elect": true,
  "profiling": false,
  "root-ca-file": "/etc/kubernetes/pki/ca.crt",
  "service-account-private-key-file": "/etc/kubernetes/pki/service-account.key",
  "service-cluster-ip-range": kubernetes.common.service_network,
  "use-service-account-credentials": true,
} %}
{%- do flags.update(kubernetes.master.controller_manager.flags) %}
{{ daemon("kube-controller-manager", {
  "description": "Kubernetes controller manager",
  "command": "/usr/local/bin/kube-controller-manager",
  "after": ["kube-apiserver"],
  "flags": flags,
  "service": salt["slsutil.merge"](confined("kubernetes", []) | load_json, kubernetes.master.controller_manager.service),
}, [
  {"artifact": "kube-controller-manager"},
  {"file": file},
  {"file": "/etc/kubernetes/pki/ca.*"},
  {"file": "/etc/kubernetes/pki/controller-manager*"},
  {"file": "/etc/kubernetes/pki/service-account*"},
]) }}
