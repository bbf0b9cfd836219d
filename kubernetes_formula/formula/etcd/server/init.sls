# etcd.server: a member of the cluster that the pillar lists. Starts without waiting for the others; who needs etcd waits.
include:
  - etcd.server.install
  - etcd.server.pki
  - etcd.server.service
