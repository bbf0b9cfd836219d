{%- from "etcd/map.jinja" import etcd, members, founder with context %}
{%- from "systemd/confined.jinja" import confined %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - etcd.server.install
  - etcd.server.pki

{%- set address = members[grains.id] %}
/etc/etcd/first-start.env:
  etcd_member.joined:
    - address: {{ address }}
    - members: {{ members | json }}
    - founder: {{ founder }}
    - data: {{ etcd.server.data }}
    - require:
      - artifact: etcd
      - file: /etc/etcd/pki/*
      - file: {{ etcd.server.data }}
    - require_in:
      - service: etcd

{%- set flags = {
  "name": grains.id,
  "data-dir": etcd.server.data,
  "listen-client-urls": "https://127.0.0.1:2379,https://" ~ address ~ ":2379",
  "advertise-client-urls": "https://" ~ address ~ ":2379",
  "listen-peer-urls": "https://" ~ address ~ ":2380",
  "initial-advertise-peer-urls": "https://" ~ address ~ ":2380",
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
{%- set service = salt["slsutil.merge"](confined("etcd", [etcd.server.data]) | load_json, {"Type": "exec", "EnvironmentFile": "-/etc/etcd/first-start.env"}) %}
{{ daemon("etcd", {
  "description": "etcd",
  "command": "/usr/local/bin/etcd",
  "prepare": {"data": "/bin/sh -c 'test -d " ~ etcd.server.data ~ "/member/wal || test -e /etc/etcd/first-start.env'"},
  "flags": flags,
  "service": salt["slsutil.merge"](service, etcd.server.service),
}, [{"artifact": "etcd"}, {"file": "/etc/etcd/pki/*"}]) }}

vote of this member:
  etcd_member.voting:
    - address: {{ address }}
    - members: {{ members | json }}
    - founder: {{ founder }}
    - data: {{ etcd.server.data }}
    - first_start: /etc/etcd/first-start.env
    - require:
      - service: etcd

members of etcd:
  etcd_member.only:
    - members: {{ members | json }}
    - require:
      - etcd_member: vote of this member
