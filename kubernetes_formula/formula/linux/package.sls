{%- from "linux/map.jinja" import linux with context %}
packages of the machine:
  pkg.installed:
    - pkgs: {{ linux.package | dictsort | rejectattr(1, "none") | map("first") | list | json }}
