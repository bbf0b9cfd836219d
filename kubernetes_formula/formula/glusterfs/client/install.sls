{%- from "glusterfs/map.jinja" import glusterfs with context %}
{%- if glusterfs.client.volume %}
packages of glusterfs.client:
  pkg.installed:
    - pkgs: {{ glusterfs.package.client | dictsort | map("first") | list | json }}
{%- endif %}
