# glusterfs.server: a machine with bricks. The first one also keeps the pool and its volumes; the others wait for nobody.
include:
  - glusterfs.server.install
  - glusterfs.server.service
  - glusterfs.server.pool
