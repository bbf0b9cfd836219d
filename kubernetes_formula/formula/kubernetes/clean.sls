# Makes a machine bare: its pods end; Kubernetes, Calico, containerd and etcd go, with all they kept on this machine. Take it out of
# service before (`salt-run state.orch ostack.remove` does both). Packages, host names and kernel settings stay.
include:
  - kubernetes.pool.clean
  - kubernetes.master.clean
  - kubernetes.client.clean
  - calico.node.clean
  - calico.cluster.clean
  - containerd.clean
  - etcd.server.clean

pods and their network are gone:
  cmd.script:
    - source: salt://kubernetes/files/clean.sh
    - onlyif: test -e /usr/local/bin/kubelet -o -e /usr/local/bin/containerd
    - order: first

haproxy:
  service.dead:
    - enable: false

{%- for path in ["/etc/haproxy/haproxy.cfg", "/etc/ostack-k8s/applied", "/var/lib/kubelet", "/var/lib/cni", "/etc/cni/net.d", "/opt/cni", "/var/log/kubernetes", "/var/log/pods",
  "/var/log/containers", "/var/log/calico", "/run/calico", "/run/containerd"] %}
{{ path }}:
  file.absent:
    - order: last
{%- endfor %}

{#- these may be mounts of their own: what is in them goes -#}
{%- for path in ["/var/lib/containerd", "/var/lib/etcd"] %}
{{ path }}:
  file.directory:
    - clean: true
    - order: last
    - onlyif: test -d {{ path }}
{%- endfor %}
