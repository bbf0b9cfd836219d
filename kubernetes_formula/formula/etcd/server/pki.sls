{%- from "pki/macros.jinja" import authority, certificate with context %}
include:
  - etcd.server.install

{{ authority("etcd-client", "/etc/etcd/pki/client-ca.crt") }}
{{ authority("etcd-peer", "/etc/etcd/pki/peer-ca.crt") }}
{{ certificate("etcd-server", "/etc/etcd/pki", "etcd") }}
{{ certificate("etcd-peer", "/etc/etcd/pki", "etcd") }}
{#- for etcdctl by root, and for the wait of those that need etcd -#}
{{ certificate("etcd-root", "/etc/etcd/pki") }}
