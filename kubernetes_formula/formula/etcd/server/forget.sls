# Makes this member join anew at its next `state.apply`: its data is set aside (it stays in the data directory).
{%- from "etcd/map.jinja" import etcd with context %}
kube-apiserver:
  service.dead

etcd:
  service.dead

data of etcd:
  etcd_member.forgotten:
    - data: {{ etcd.server.data }}
    - require:
      - service: etcd
