{%- from "bundle/macros.jinja" import installed with context %}
{%- set programs, plugins = {}, {} %}
{%- for program in ["containerd", "containerd-shim-runc-v2", "ctr"] %}
{%-   do programs.update({"bin/" ~ program: "/usr/local/bin/" ~ program}) %}
{%- endfor %}
{%- for plugin in ["bridge", "host-local", "loopback", "portmap", "tuning"] %}
{%-   do plugins.update({plugin: "/opt/cni/bin/" ~ plugin}) %}
{%- endfor %}
{{ installed("containerd", programs) }}
{{ installed("runc", {"": "/usr/local/bin/runc"}) }}
{{ installed("cni-plugins", plugins) }}
