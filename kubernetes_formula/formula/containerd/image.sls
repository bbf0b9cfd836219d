# Images that a machine needs before it can reach a registry.
{%- from "bundle/macros.jinja" import image with context %}
{%- from "containerd/map.jinja" import containerd with context %}
include:
  - containerd.service

{%- for name, wanted in containerd.image | dictsort if wanted is not none %}
{{ image(name) }}
    - require:
      - service: containerd
{%- endfor %}
