# Pods get their network from here on. Before, felix must have written its policy and BIRD must have a peer (or need none).
{%- from "kubernetes/macros.jinja" import kubeconfig with context %}
{%- from "kubernetes/map.jinja" import kubernetes with context %}
{%- from "pki/macros.jinja" import certificate with context %}
include:
  - calico.node.service
  - kubernetes.authority

{{ certificate("calico-cni", "/etc/calico/pki") }}
{{ kubeconfig("/etc/calico/cni.kubeconfig", kubernetes.common.server, "/etc/calico/pki/calico-cni") }}

felix and BIRD are ready:
  wait.succeeds:
    - command: [/usr/local/bin/calico-node, -felix-ready, -bird-ready]
    - timeout: 180
    - require:
      - service: calico-felix
      - service: calico-bird

/etc/cni/net.d/10-calico.conflist:
  file.managed:
    - source: salt://calico/files/10-calico.conflist.jinja
    - mode: '0600'
    - template: jinja
    - makedirs: true
    - require:
      - wait: felix and BIRD are ready

# what containerd writes for the engine `bridge`
/etc/cni/net.d/10-containerd-net.conflist:
  file.absent
