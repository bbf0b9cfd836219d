# containerd: the container runtime with runc and CNI plugins, its registries, the images that come from the bundle.
include:
  - containerd.install
  - containerd.config
  - containerd.registry
  - containerd.service
  - containerd.image
