{%- from "containerd/map.jinja" import containerd with context %}
{%- from "systemd/confined.jinja" import restrained %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - containerd.install
  - containerd.config

{%- set service = salt["slsutil.merge"](restrained() | load_json, {"Type": "notify", "Delegate": "yes", "KillMode": "process", "TasksMax": "infinity"}) %}
{{ daemon("containerd", {
  "description": "containerd container runtime",
  "command": "/usr/local/bin/containerd",
  "flags": {"config": "/etc/containerd/config.toml"},
  "service": salt["slsutil.merge"](service, containerd.service),
}, [{"artifact": "containerd"}, {"file": "/etc/containerd/config.toml"}]) }}
