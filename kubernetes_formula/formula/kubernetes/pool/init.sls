# kubernetes.pool: a machine that runs pods.
{%- from "kubernetes/map.jinja" import kubernetes with context %}
include:
  - kubernetes.authority
  - kubernetes.gateway
  - kubernetes.pool.directory
  - kubernetes.pool.kubelet
  - kubernetes.pool.client
  - kubernetes.pool.proxy
{%- if kubernetes.pool.network.engine == "calico" %}
  - calico.node
{%- endif %}
