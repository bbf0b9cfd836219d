# Takes kubelet and kube-proxy away; drain the machine first. Directories that pods used stay.
{%- from "systemd/macros.jinja" import clean with context %}
{{ clean(["kubelet", "kube-proxy"], ["/etc/systemd/system/kubelet.service", "/etc/systemd/system/kube-proxy.service", "/etc/kubernetes/kubelet.yaml",
  "/etc/kubernetes/bootstrap.kubeconfig", "/etc/kubernetes/kube-proxy.yaml", "/etc/kubernetes/kube-proxy.kubeconfig", "/var/lib/kubelet/kubeconfig",
  "/var/lib/kubelet/pki", "/usr/local/bin/kubelet", "/usr/local/bin/kube-proxy", "/var/lib/ostack-k8s/artifact/kubelet.json",
  "/var/lib/ostack-k8s/artifact/kube-proxy.json"]) }}
