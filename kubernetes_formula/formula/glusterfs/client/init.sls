# glusterfs.client: the volumes that this machine mounts.
{%- from "glusterfs/map.jinja" import glusterfs with context %}
{%- if glusterfs.client.volume %}
include:
  - glusterfs.client.install
  - glusterfs.client.mount
{%- else %}
no volume to mount:
  test.nop
{%- endif %}
