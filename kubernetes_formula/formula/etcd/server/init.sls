# etcd.server: a member of the cluster that the pillar lists. The founder starts it, the others join one after another.
include:
  - etcd.server.install
  - etcd.server.pki
  - etcd.server.service
  - etcd.server.snapshot
