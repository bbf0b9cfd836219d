{%- from "glusterfs/map.jinja" import glusterfs with context %}
{{ glusterfs.package.server }}:
  pkg.installed

{%- set filesystem = glusterfs.server.filesystem %}
{%- if filesystem %}
{{ glusterfs.package.filesystem[filesystem.type] }}:
  pkg.installed

# mkfs refuses a disk that holds something
filesystem of the bricks:
  cmd.run:
    - name: mkfs.{{ filesystem.type }} {{ filesystem.device }}
    - unless: blkid -p -u filesystem {{ filesystem.device }}
    - require:
      - pkg: {{ glusterfs.package.server }}
      - pkg: {{ glusterfs.package.filesystem[filesystem.type] }}

{{ glusterfs.server.brick }}:
  mount.mounted:
    - device: {{ filesystem.device }}
    - fstype: {{ filesystem.type }}
    - opts: noatime,nofail
    - mkmnt: true
    - require:
      - cmd: filesystem of the bricks
{%- else %}
{{ glusterfs.server.brick }}:
  file.directory:
    - mode: '0700'
    - makedirs: true
{%- endif %}
