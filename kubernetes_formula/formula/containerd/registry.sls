# Registries with their CA and credentials; containerd reads these at every pull, so nothing restarts.
{%- from "containerd/map.jinja" import containerd with context %}
{%- from "pki/macros.jinja" import authority with context %}
{%- for key, registry in containerd.registry | dictsort if registry is not none %}
{%- set name = registry.host ~ ":" ~ registry.port %}
{%- set directory = "/etc/containerd/certs.d/" ~ name %}
{{ authority(registry.authority, directory ~ "/ca.crt") }}

{{ directory }}/hosts.toml:
  file.managed:
    - source: salt://containerd/files/hosts.toml.jinja
    - template: jinja
    - mode: '0600'
    - show_changes: false
    - context: {{ {"key": key, "name": name, "directory": directory} | json }}
{%- endfor %}
