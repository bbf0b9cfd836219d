{%- from "glusterfs/map.jinja" import glusterfs with context %}
include:
  - glusterfs.server.install
  - glusterfs.tls

# as upstream ships it: bricks outlive a restart of the management daemon, and that one is soon back
/etc/systemd/system/{{ glusterfs.service }}.service.d/ostack-k8s.conf:
  file.managed:
    - contents: |
        [Unit]
        StartLimitIntervalSec=0
        [Service]
        KillMode=process
        Restart=always
        RestartSec=2
    - makedirs: true

{{ glusterfs.service }}:
  service.running:
    - enable: true
    - require:
      - sls: glusterfs.server.install
    - watch:
      - file: /etc/systemd/system/{{ glusterfs.service }}.service.d/ostack-k8s.conf
{%- if glusterfs.tls %}
      - sls: glusterfs.tls
{%- endif %}
