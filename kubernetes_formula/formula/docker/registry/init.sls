# docker.registry: the registry of the cloud's images, over TLS and with a password.
include:
  - docker.registry.install
  - docker.registry.config
  - docker.registry.service
