# The cluster's data from a snapshot: `salt-call state.apply etcd.server.restore pillar='{"snapshot": "/var/backups/etcd/….db"}'` on one
# member, `etcd.server.forget` on all others before it, then `state.apply` on each. `salt-run state.orch ostack.restore` does all of it.
{%- from "etcd/map.jinja" import etcd, members with context %}
the API server stops:
  service.dead:
    - name: kube-apiserver

the member stops:
  service.dead:
    - name: etcd

data of etcd:
  etcd_member.restored:
    - snapshot: {{ pillar.get("snapshot", "") | json }}
    - address: {{ members[grains.id] }}
    - data: {{ etcd.server.data }}
    - require:
      - service: the API server stops
      - service: the member stops

the member starts:
  service.running:
    - name: etcd
    - require:
      - etcd_member: data of etcd
