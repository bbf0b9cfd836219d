# calico.cluster, on the first master: what Calico needs in the API, what the model says of it, and kube-controllers, which
# gives back the addresses of machines that are gone and must run once in a cluster.
include:
  - calico.cluster.types
  - calico.cluster.access
  - calico.cluster.settings
  - calico.cluster.peers
  - calico.cluster.mesh
  - calico.cluster.policy
  - calico.cluster.controllers
