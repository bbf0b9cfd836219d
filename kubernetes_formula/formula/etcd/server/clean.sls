# Takes etcd away; its data in the data directory and its snapshots stay.
{%- from "systemd/macros.jinja" import clean with context %}
{{ clean(["etcd-snapshot.timer", "etcd"], ["/etc/systemd/system/etcd.service", "/etc/systemd/system/etcd-snapshot.service",
  "/etc/systemd/system/etcd-snapshot.timer", "/usr/local/sbin/etcd-snapshot", "/etc/etcd", "/usr/local/bin/etcd", "/usr/local/bin/etcdctl",
  "/usr/local/bin/etcdutl", "/var/lib/ostack-k8s/artifact/etcd.json"]) }}
