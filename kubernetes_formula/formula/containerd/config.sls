{%- from "containerd/map.jinja" import containerd with context %}
/etc/containerd/config.toml:
  file.managed:
    - source: salt://containerd/files/config.toml.jinja
    - template: jinja
    - makedirs: true
    - context: {{ {"containerd": containerd, "pause": pillar["bundle"]["artifact"]["pause"]["image"]} | json }}

{%- if containerd.bridge %}
# containerd writes the CNI configuration from this when the kubelet knows the machine's pod network, so that a machine is
# Ready only when its pods have one.
/etc/containerd/cni.conflist.template:
  file.managed:
    - source: salt://containerd/files/cni.conflist.template
{%- endif %}
