{%- from "docker/map.jinja" import docker with context %}
{%- from "pki/macros.jinja" import certificate with context %}
include:
  - docker.registry.install

{%- set registry = docker.registry %}
{%- set directory = "/etc/docker/registry" %}
{{ certificate(registry.certificate, directory, "docker-registry") }}

{{ directory }}/htpasswd:
  htpasswd.present:
    - user: {{ registry.user }}
    - password_pillar: docker:registry:password
    - group: docker-registry

{{ directory }}/config.yml:
  file.serialize:
    - serializer: yaml
    - dataset:
        version: 0.1
        log: {level: info, fields: {service: registry}}
        storage:
          cache: {blobdescriptor: inmemory}
          filesystem: {rootdirectory: {{ registry.data }}}
          delete: {enabled: true}
        http:
          addr: ':{{ registry.port }}'
          headers: {X-Content-Type-Options: [nosniff]}
          tls: {certificate: {{ directory }}/{{ registry.certificate }}.crt, key: {{ directory }}/{{ registry.certificate }}.key}
        auth: {htpasswd: {realm: ostack-k8s, path: {{ directory }}/htpasswd}}
        health: {storagedriver: {enabled: true, interval: 10s, threshold: 3}}
