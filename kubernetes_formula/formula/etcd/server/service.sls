{%- from "etcd/map.jinja" import etcd with context %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - etcd.server.install
  - etcd.server.pki

{%- set address = etcd.server.member[grains.id].address %}
{%- set members = [] %}
{%- for name, member in etcd.server.member | dictsort if member is not none %}
{%-   do members.append(name ~ "=https://" ~ member.address ~ ":2380") %}
{%- endfor %}
{%- set flags = {
  "name": grains.id,
  "data-dir": etcd.server.data,
  "listen-client-urls": "https://127.0.0.1:2379,https://" ~ address ~ ":2379",
  "advertise-client-urls": "https://" ~ address ~ ":2379",
  "listen-peer-urls": "https://" ~ address ~ ":2380",
  "initial-advertise-peer-urls": "https://" ~ address ~ ":2380",
  "initial-cluster": members | join(","),
  "initial-cluster-state": "new",
  "client-cert-auth": true,
  "trusted-ca-file": "/etc/etcd/pki/client-ca.crt",
  "cert-file": "/etc/etcd/pki/etcd-server.crt",
  "key-file": "/etc/etcd/pki/etcd-server.key",
  "peer-client-cert-auth": true,
  "peer-trusted-ca-file": "/etc/etcd/pki/peer-ca.crt",
  "peer-cert-file": "/etc/etcd/pki/etcd-peer.crt",
  "peer-key-file": "/etc/etcd/pki/etcd-peer.key",
} %}
{%- do flags.update(etcd.server.flags) %}
{{ daemon("etcd", {
  "description": "etcd",
  "command": "/usr/local/bin/etcd",
  "flags": flags,
  "service": salt["slsutil.merge"]({"Type": "exec", "User": "etcd"}, etcd.server.service),
}, [{"artifact": "etcd"}, {"file": "/etc/etcd/pki/*"}]) }}
