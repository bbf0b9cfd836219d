{%- from "linux/map.jinja" import linux with context %}
{%- for name, host in linux.network.host | dictsort if host is not none %}
host {{ name }}:
  host.present:
    - ip: {{ host.address }}
    - names: {{ [name, name.split(".")[0]] | unique | json }}
{%- endfor %}
