{%- from "docker/map.jinja" import docker with context %}
registry packages:
  pkg.installed:
    - pkgs: {{ docker.registry.package | dictsort | rejectattr(1, "none") | map("first") | list | json }}

{{ docker.registry.data }}:
  file.directory:
    - user: docker-registry
    - mode: '0750'
    - makedirs: true
