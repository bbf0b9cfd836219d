# Takes the mounts away; what the volumes hold stays.
{%- from "glusterfs/map.jinja" import glusterfs with context %}
{%- from "systemd/macros.jinja" import clean with context %}
{%- set names = glusterfs.client.volume | dictsort | rejectattr(1, "none") | map("first") | list %}
{%- set services, units = [], ["/etc/glusterfs/servers.env"] %}
{%- for name in names %}
{%-   do services.append("glusterfs-" ~ name) %}
{%-   do units.append("/etc/systemd/system/glusterfs-" ~ name ~ ".service") %}
{%- endfor %}
{{ clean(services, units) }}
{%- for name in names %}
{{ glusterfs.client.directory }}/{{ name }}:
  mount_point.absent:
    - require:
      - service: glusterfs-{{ name }}
{%- endfor %}
