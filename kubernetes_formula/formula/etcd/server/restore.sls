# The cluster's data from a snapshot: `salt-call state.apply etcd.server.restore pillar='{"snapshot": "/var/backups/etcd/….db"}'` on one
# member, `etcd.server.forget` on all others before it, then `state.apply` on each. `salt-run state.orch ostack.restore` does all of it.
{%- from "etcd/map.jinja" import etcd, members with context %}
kube-apiserver:
  service.dead

etcd:
  service.dead

data of etcd:
  etcd_member.restored:
    - snapshot: {{ pillar.get("snapshot", "") | json }}
    - address: {{ members[grains.id] }}
    - data: {{ etcd.server.data }}
    - require:
      - service: etcd
      - service: kube-apiserver

etcd again:
  service.running:
    - name: etcd
    - require:
      - etcd_member: data of etcd
