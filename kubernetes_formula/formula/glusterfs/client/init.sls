# glusterfs.client: the volumes that this machine mounts; nothing where there is none.
include:
  - glusterfs.client.install
  - glusterfs.client.mount
