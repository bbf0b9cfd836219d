# Takes containerd away; images and containers in /var/lib/containerd stay.
{%- from "systemd/macros.jinja" import clean with context %}
{{ clean(["containerd"], ["/etc/systemd/system/containerd.service", "/etc/containerd", "/opt/cni/bin", "/usr/local/bin/containerd",
  "/usr/local/bin/containerd-shim-runc-v2", "/usr/local/bin/ctr", "/usr/local/bin/runc", "/var/lib/ostack-k8s/artifact/containerd.json",
  "/var/lib/ostack-k8s/artifact/runc.json", "/var/lib/ostack-k8s/artifact/cni-plugins.json"]) }}
