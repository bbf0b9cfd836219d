{%- from "kubernetes/macros.jinja" import binary with context %}
{%- from "kubernetes/map.jinja" import kubernetes with context %}
{%- from "systemd/confined.jinja" import confined %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - kubernetes.authority
  - kubernetes.master.pki

{%- set common, pki = kubernetes.common, "/etc/kubernetes/pki/" %}
{{ binary("kube-apiserver") }}

/etc/kubernetes/authentication.yaml:
  file.managed:
    - source: salt://kubernetes/files/authentication.yaml

/etc/kubernetes/audit.yaml:
  file.managed:
    - source: salt://kubernetes/files/audit.yaml

/etc/kubernetes/admission.yaml:
  file.managed:
    - source: salt://kubernetes/files/admission.yaml.jinja
    - template: jinja
    - context: {{ {"security": kubernetes.master.pod_security} | json }}

/etc/kubernetes/encryption.yaml:
  file.managed:
    - source: salt://kubernetes/files/encryption.yaml.jinja
    - template: jinja
    - user: kubernetes
    - mode: '0400'
    - show_changes: false

/var/log/kubernetes:
  file.directory:
    - user: kubernetes
    - mode: '0700'

{%- set flags = {
  "admission-control-config-file": "/etc/kubernetes/admission.yaml",
  "advertise-address": common.master[grains.id].address,
  "allow-privileged": true,
  "audit-log-maxage": 30,
  "audit-log-maxbackup": 10,
  "audit-log-maxsize": 100,
  "audit-log-path": "/var/log/kubernetes/audit.log",
  "audit-policy-file": "/etc/kubernetes/audit.yaml",
  "authentication-config": "/etc/kubernetes/authentication.yaml",
  "authorization-mode": "Node,RBAC",
  "bind-address": "0.0.0.0",
  "client-ca-file": pki ~ "ca.crt",
  "enable-admission-plugins": "NodeRestriction,DenyServiceExternalIPs",
  "enable-bootstrap-token-auth": true,
  "encryption-provider-config": "/etc/kubernetes/encryption.yaml",
  "etcd-cafile": pki ~ "etcd-ca.crt",
  "etcd-certfile": pki ~ "apiserver-etcd.crt",
  "etcd-keyfile": pki ~ "apiserver-etcd.key",
  "etcd-servers": "https://127.0.0.1:2379",
  "kubelet-certificate-authority": pki ~ "ca.crt",
  "kubelet-client-certificate": pki ~ "apiserver-kubelet.crt",
  "kubelet-client-key": pki ~ "apiserver-kubelet.key",
  "kubelet-preferred-address-types": "InternalIP,Hostname",
  "profiling": false,
  "proxy-client-cert-file": pki ~ "front-proxy-client.crt",
  "proxy-client-key-file": pki ~ "front-proxy-client.key",
  "requestheader-allowed-names": "front-proxy-client",
  "requestheader-client-ca-file": pki ~ "front-proxy-ca.crt",
  "requestheader-extra-headers-prefix": "X-Remote-Extra-",
  "requestheader-group-headers": "X-Remote-Group",
  "requestheader-username-headers": "X-Remote-User",
  "secure-port": 6443,
  "service-account-issuer": "https://kubernetes.default.svc." ~ common.domain,
  "service-account-key-file": pki ~ "service-account.pub",
  "service-account-signing-key-file": pki ~ "service-account.key",
  "service-cluster-ip-range": common.service_network,
  "shutdown-watch-termination-grace-period": "2s",
  "tls-cert-file": pki ~ "apiserver.crt",
  "tls-min-version": "VersionTLS13",
  "tls-private-key-file": pki ~ "apiserver.key",
} %}
{%- do flags.update(kubernetes.master.apiserver.flags) %}
{%- set service = salt["slsutil.merge"](confined("kubernetes", ["/var/log/kubernetes"]) | load_json, {"Type": "exec", "LimitNOFILE": "65536"}) %}
{{ daemon("kube-apiserver", {
  "description": "Kubernetes API server",
  "command": "/usr/local/bin/kube-apiserver",
  "after": ["etcd"],
  "flags": flags,
  "service": salt["slsutil.merge"](service, kubernetes.master.apiserver.service),
}, [
  {"artifact": "kube-apiserver"},
  {"file": "/etc/kubernetes/authentication.yaml"},
  {"file": "/etc/kubernetes/audit.yaml"},
  {"file": "/etc/kubernetes/admission.yaml"},
  {"file": "/etc/kubernetes/encryption.yaml"},
  {"file": "/etc/kubernetes/pki/apiserver*"},
  {"file": "/etc/kubernetes/pki/ca.crt"},
  {"file": "/etc/kubernetes/pki/etcd-ca.crt"},
  {"file": "/etc/kubernetes/pki/front-proxy*"},
  {"file": "/etc/kubernetes/pki/service-account*"},
]) }}
    - require:
      - file: /var/log/kubernetes
