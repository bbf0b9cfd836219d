# BIRD is the distribution's; its own services would hold BGP's port, so they are masked before the package comes.
{%- from "bundle/macros.jinja" import installed with context %}
{%- import_yaml "calico/parameters/systems.yaml" as systems %}
{%- if grains.osfinger not in systems %}
{{- raise("calico: " ~ grains.osfinger ~ " has no BIRD 1.6, so it cannot run pods with Calico; systems that can: " ~ (systems | sort | join(", ")) ~ " (calico/parameters/systems.yaml)") }}
{%- endif %}
{{ installed("calico-node", {"": "/usr/local/bin/calico-node"}) }}
{{ installed("calico-cni", {"": "/opt/cni/bin/calico"}) }}

/opt/cni/bin/calico-ipam:
  file.symlink:
    - target: calico
    - require:
      - artifact: calico-cni

{%- for name in ["bird", "bird6"] %}
/etc/systemd/system/{{ name }}.service:
  file.symlink:
    - target: /dev/null
{% endfor %}
bird:
  pkg.installed:
    - require:
      - file: /etc/systemd/system/bird.service
      - file: /etc/systemd/system/bird6.service
