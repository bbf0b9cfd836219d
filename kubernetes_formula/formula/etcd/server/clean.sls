# Takes etcd away; its data in the data directory stays.
{%- from "systemd/macros.jinja" import clean with context %}
{{ clean(["etcd"], ["/etc/systemd/system/etcd.service", "/etc/etcd", "/usr/local/bin/etcd", "/usr/local/bin/etcdctl",
  "/usr/local/bin/etcdutl", "/var/lib/ostack-k8s/artifact/etcd.json"]) }}
