# The user of the control plane and its keys; the CA's own key is here for the controller manager, which signs kubelets' certificates.
{%- from "pki/macros.jinja" import authority, certificate, private, public with context %}
kubernetes user:
  user.present:
    - name: kubernetes
    - system: true
    - home: /etc/kubernetes
    - createhome: false
    - shell: /usr/sbin/nologin

{{ authority("etcd-client", "/etc/kubernetes/pki/etcd-ca.crt") }}
{{ authority("front-proxy", "/etc/kubernetes/pki/front-proxy-ca.crt") }}
{%- for name in ["apiserver", "apiserver-etcd", "apiserver-kubelet", "front-proxy-client", "controller-manager", "scheduler"] %}
{{ certificate(name, "/etc/kubernetes/pki", "kubernetes") }}
{%- endfor %}
{{ private("/etc/kubernetes/pki/ca.key", "pki:authority_key:kubernetes:private_key", "kubernetes") }}
{{ public("/etc/kubernetes/pki/service-account.pub", "pki:keypair:service-account:public_key") }}
{{ private("/etc/kubernetes/pki/service-account.key", "pki:keypair:service-account:private_key", "kubernetes") }}
