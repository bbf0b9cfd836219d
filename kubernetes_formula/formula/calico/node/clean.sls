# Takes Calico away from a machine; drain it first. BIRD is asked to end, so that its peers drop this machine's routes at once.
{%- from "systemd/macros.jinja" import clean with context %}
calico-bird withdraws its routes:
  cmd.run:
    - name: systemctl kill --signal=TERM calico-bird
    - onlyif: systemctl is-active --quiet calico-bird
    - order: first

{%- set services = ["calico-bird", "calico-confd", "calico-felix", "calico-startup"] %}
{%- set paths = ["/etc/cni/net.d/10-calico.conflist", "/etc/calico", "/var/lib/calico", "/usr/local/bin/calico-node", "/opt/cni/bin/calico",
  "/opt/cni/bin/calico-ipam", "/var/lib/ostack-k8s/artifact/calico-node.json", "/var/lib/ostack-k8s/artifact/calico-cni.json"] %}
{%- for name in services %}
{%-   do paths.append("/etc/systemd/system/" ~ name ~ ".service") %}
{%- endfor %}
{{ clean(services, paths) }}
