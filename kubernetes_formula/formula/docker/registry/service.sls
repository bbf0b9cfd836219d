docker-registry:
  service.running:
    - enable: true
    - watch:
      - file: /etc/docker/registry/*
