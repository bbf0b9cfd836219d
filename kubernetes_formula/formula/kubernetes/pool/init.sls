# kubernetes.pool: a machine that runs pods.
include:
  - kubernetes.authority
  - kubernetes.gateway
  - kubernetes.pool.directory
  - kubernetes.pool.kubelet
  - kubernetes.pool.proxy
