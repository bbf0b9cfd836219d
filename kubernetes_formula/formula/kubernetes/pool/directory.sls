# Directories of the machine that pods mount, with the owners their processes have.
{%- from "kubernetes/map.jinja" import kubernetes with context %}
{%- for path, directory in kubernetes.pool.directory | dictsort if directory is not none %}
{{ path }}:
  file.directory:
    - user: {{ directory.get("user", "root") }}
    - group: {{ directory.get("group", "root") }}
    - mode: '{{ directory.get("mode", "0755") }}'
    - makedirs: true
{%- endfor %}
