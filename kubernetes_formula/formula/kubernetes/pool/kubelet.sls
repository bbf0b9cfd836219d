{%- from "kubernetes/macros.jinja" import binary, kubeconfig with context %}
{%- from "kubernetes/map.jinja" import kubernetes with context %}
{%- from "pki/macros.jinja" import certificate with context %}
{%- from "systemd/confined.jinja" import restrained %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - kubernetes.authority
  - kubernetes.gateway

{%- set kubelet = kubernetes.pool.kubelet %}
{%- set config = salt["slsutil.merge"]({
  "apiVersion": "kubelet.config.k8s.io/v1beta1",
  "kind": "KubeletConfiguration",
  "clusterDNS": [kubernetes.common.dns],
  "clusterDomain": kubernetes.common.domain,
}, kubelet.config) %}
{{ binary("kubelet") }}
{{ certificate("kubelet-server", "/etc/kubernetes/pki") }}
{{ kubeconfig("/etc/kubernetes/bootstrap.kubeconfig", kubernetes.common.server, token="kubelet-bootstrap-token") }}

{%- if kubernetes.pool.nameserver %}
{%- do config.update({"resolvConf": "/etc/kubernetes/resolv.conf"}) %}
/etc/kubernetes/resolv.conf:
  file.managed:
    - contents:
{%- for _, address in kubernetes.pool.nameserver | dictsort if address is not none %}
      - nameserver {{ address }}
{%- endfor %}
{%- endif %}

/etc/kubernetes/kubelet.yaml:
  file.serialize:
    - serializer: yaml
    - mode: '0600'
    - dataset: {{ config | json }}

{#- pods are not its children: it may do less than they. The set-group-ID bit of volumes it sets itself. #}
{%- set service = salt["slsutil.merge"](restrained() | load_json, {
  "KillMode": "process",
  "LockPersonality": "yes",
  "MemoryDenyWriteExecute": "yes",
  "NoNewPrivileges": "yes",
  "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
  "RestrictNamespaces": "yes",
  "RestrictRealtime": "yes",
  "SystemCallFilter": "~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap",
}) %}
{{ daemon("kubelet", {
  "description": "kubelet",
  "command": "/usr/local/bin/kubelet",
  "after": ["containerd"],
  "wants": ["containerd"],
  "prepare": kubelet.prepare,
  "flags": {
    "bootstrap-kubeconfig": "/etc/kubernetes/bootstrap.kubeconfig",
    "config": "/etc/kubernetes/kubelet.yaml",
    "hostname-override": grains.id,
    "kubeconfig": "/var/lib/kubelet/kubeconfig",
    "node-ip": kubernetes.pool.address,
  },
  "service": salt["slsutil.merge"](service, kubelet.service),
}, [
  {"artifact": "kubelet"},
  {"file": "/etc/kubernetes/kubelet.yaml"},
  {"file": "/etc/kubernetes/bootstrap.kubeconfig"},
  {"file": "/etc/kubernetes/pki/ca.crt"},
  {"file": "/etc/kubernetes/pki/kubelet-server*"},
]) }}
