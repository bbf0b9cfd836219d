{%- from "containerd/map.jinja" import containerd with context %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - containerd.install
  - containerd.config

{{ daemon("containerd", {
  "description": "containerd container runtime",
  "command": "/usr/local/bin/containerd",
  "flags": {"config": "/etc/containerd/config.toml"},
  "service": salt["slsutil.merge"]({"Type": "notify", "Delegate": "yes", "KillMode": "process", "TasksMax": "infinity"}, containerd.service),
}, [{"artifact": "containerd"}, {"file": "/etc/containerd/config.toml"}]) }}
