# kubernetes.master: API server, controller manager and scheduler; on the first master also what the cluster needs in its API.
{%- from "kubernetes/map.jinja" import kubernetes, leader with context %}
include:
  - kubernetes.authority
  - kubernetes.master.pki
  - kubernetes.master.apiserver
  - kubernetes.master.controller_manager
  - kubernetes.master.scheduler
  - kubernetes.master.ready
{%- if leader %}
  - kubernetes.master.access
  - kubernetes.master.coredns
  - kubernetes.master.nodes
{%-   if kubernetes.pool.network.engine == "calico" %}
  - calico.cluster
{%-   endif %}
{%- endif %}
