/srv/ostack-k8s/reports:
  file.directory:
    - mode: '0750'
    - makedirs: true

/etc/systemd/system/ostack-k8s-pipeline@.service:
  file.managed:
    - source: salt://config/files/ostack-k8s-pipeline@.service
