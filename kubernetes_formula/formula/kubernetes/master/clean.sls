# Takes the control plane away; what it wrote is in etcd and stays there.
{%- from "systemd/macros.jinja" import clean with context %}
{%- set services = ["kube-scheduler", "kube-controller-manager", "kube-apiserver"] %}
{%- set paths = ["/etc/kubernetes"] %}
{%- for name in services %}
{%-   do paths.extend(["/etc/systemd/system/" ~ name ~ ".service", "/usr/local/bin/" ~ name, "/var/lib/ostack-k8s/artifact/" ~ name ~ ".json"]) %}
{%- endfor %}
{{ clean(services, paths) }}
