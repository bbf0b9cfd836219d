# The pool and its volumes, by the first server alone.
{%- from "glusterfs/map.jinja" import clients, glusterfs, leader, servers with context %}
{%- if leader %}
{%- set addresses = servers | map(attribute=1) | map(attribute="address") | list %}
{%- set friends = servers + clients %}
{%- set options = {"auth.allow": friends | map(attribute=1) | map(attribute="address") | unique | sort | join(",")} %}
{%- if glusterfs.tls %}
{%-   do options.update({"client.ssl": "on", "server.ssl": "on", "auth.ssl-allow": friends | map("first") | unique | sort | join(",")}) %}
{%- endif %}
include:
  - glusterfs.server.service

pool of glusterfs:
  glusterfs_pool.present:
    - members: {{ addresses[1:] | json }}
    - require:
      - service: {{ glusterfs.service }}

{%- for name, volume in glusterfs.server.volume | dictsort if volume is not none %}
{{ name }}:
  glusterfs_volume.present:
    - addresses: {{ addresses | json }}
    - path: {{ glusterfs.server.brick }}/{{ name }}
    - replica: {{ volume.get("replica", 3) }}
    - options: {{ salt["slsutil.merge_all"]([options, glusterfs.server.option, volume.get("option", {})]) | json }}
    - force: {{ not glusterfs.server.filesystem }}
    - require:
      - glusterfs_pool: pool of glusterfs
    - require_in:
      - glusterfs_pool: machines that left glusterfs
{%- endfor %}

machines that left glusterfs:
  glusterfs_pool.nobody_else:
    - members: {{ addresses | json }}
    - require:
      - glusterfs_pool: pool of glusterfs
{%- endif %}
