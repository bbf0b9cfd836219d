{%- from "glusterfs/map.jinja" import glusterfs with context %}
packages of glusterfs.client:
  pkg.installed:
    - pkgs: {{ glusterfs.package.client | dictsort | map("first") | list | json }}
