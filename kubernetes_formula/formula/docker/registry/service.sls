include:
  - docker.registry.config

docker-registry:
  service.running:
    - enable: true
    - watch:
      - file: /etc/docker/registry/*
