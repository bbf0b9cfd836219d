{%- from "kubernetes/macros.jinja" import binary, kubeconfig with context %}
{%- from "kubernetes/map.jinja" import kubernetes with context %}
{%- from "pki/macros.jinja" import certificate with context %}
{%- from "systemd/confined.jinja" import confined %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - kubernetes.authority
  - kubernetes.gateway

{{ binary("kube-proxy") }}
{{ certificate("kube-proxy", "/etc/kubernetes/pki") }}
{{ kubeconfig("/etc/kubernetes/kube-proxy.kubeconfig", kubernetes.common.server, "/etc/kubernetes/pki/kube-proxy") }}

/etc/kubernetes/kube-proxy.yaml:
  file.serialize:
    - serializer: yaml
    - mode: '0600'
    - dataset: {{ salt["slsutil.merge"]({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": "/etc/kubernetes/kube-proxy.kubeconfig"},
        "clusterCIDR": kubernetes.common.pod_network,
        "hostnameOverride": grains.id,
      }, kubernetes.pool.proxy.config) | json }}

{#- root, for rules and kernel settings of the network, and nothing else #}
{%- set service = salt["slsutil.merge"](confined("root", ["/run"]) | load_json, {
  "CapabilityBoundingSet": "CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_RESOURCE",
  "ProtectKernelTunables": none,
}) %}
{{ daemon("kube-proxy", {
  "description": "kube-proxy",
  "command": "/usr/local/bin/kube-proxy",
  "flags": {"config": "/etc/kubernetes/kube-proxy.yaml"},
  "service": salt["slsutil.merge"](service, kubernetes.pool.proxy.service),
}, [
  {"artifact": "kube-proxy"},
  {"file": "/etc/kubernetes/kube-proxy.yaml"},
  {"file": "/etc/kubernetes/kube-proxy.kubeconfig"},
  {"file": "/etc/kubernetes/pki/ca.crt"},
  {"file": "/etc/kubernetes/pki/kube-proxy*"},
]) }}
