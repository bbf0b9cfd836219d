{%- from "linux/map.jinja" import linux with context %}
{%- for name, module in linux.kernel.module | dictsort if module is not none %}
{{ name }}:
  kmod.present:
    - persist: true
{%- endfor %}
{%- for key, value in linux.kernel.sysctl | dictsort if value is not none %}
{{ key }}:
  sysctl.present:
    - value: '{{ value }}'
    - config: /etc/sysctl.d/60-ostack-k8s.conf
{%- endfor %}
