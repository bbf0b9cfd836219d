# The bundle for the other machines, by plain HTTP: everything in it is public, and each machine checks checksums of the model.
{%- from "systemd/macros.jinja" import daemon with context %}
{%- set server = pillar["bundle"]["server"] %}
{{ daemon("ostack-k8s-bundle", {
  "description": "The bundle of ostack-k8s",
  "command": "/opt/ostack-k8s/bin/python -m http.server " ~ server.port,
  "flags": {"bind": server.address, "directory": server.directory},
  "service": {"DynamicUser": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "StandardError": "null"},
}) }}
