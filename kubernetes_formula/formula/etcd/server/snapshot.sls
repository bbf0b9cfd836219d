# A snapshot of the whole cluster's data on a timer; each member keeps its own.
{%- from "etcd/map.jinja" import etcd with context %}
include:
  - etcd.server.install

{%- set snapshot = etcd.server.snapshot %}
{{ snapshot.directory }}:
  file.directory:
    - mode: '0700'
    - makedirs: true

/usr/local/sbin/etcd-snapshot:
  file.managed:
    - source: salt://etcd/files/etcd-snapshot.sh.jinja
    - template: jinja
    - mode: '0755'
    - context: {{ {"snapshot": snapshot} | json }}

{%- for kind in ["service", "timer"] %}
/etc/systemd/system/etcd-snapshot.{{ kind }}:
  file.managed:
    - source: salt://etcd/files/etcd-snapshot.{{ kind }}.jinja
    - template: jinja
    - context: {{ {"snapshot": snapshot} | json }}
{%- endfor %}

etcd-snapshot.timer:
  service.running:
    - enable: true
    - watch:
      - file: /etc/systemd/system/etcd-snapshot.timer
    - require:
      - file: /etc/systemd/system/etcd-snapshot.service
      - file: /usr/local/sbin/etcd-snapshot
