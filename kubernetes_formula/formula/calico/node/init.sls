# calico.node: the network of a machine's pods. startup tells the machine's address to the cluster, felix makes routes and
# policy, confd writes BIRD's configuration, BIRD speaks BGP. The CNI configuration comes last: with it the kubelet says Ready.
include:
  - calico.node.install
  - calico.node.config
  - calico.node.service
  - calico.node.cni
