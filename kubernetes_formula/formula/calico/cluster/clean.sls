# Takes kube-controllers away; what is in the cluster stays there.
{%- from "systemd/macros.jinja" import clean with context %}
{{ clean(["calico-kube-controllers"], ["/etc/systemd/system/calico-kube-controllers.service", "/etc/calico/kube-controllers.kubeconfig",
  "/etc/calico/pki/calico-kube-controllers.crt", "/etc/calico/pki/calico-kube-controllers.key", "/usr/local/bin/calico-kube-controllers",
  "/usr/local/bin/calicoctl", "/var/lib/ostack-k8s/artifact/calico-kube-controllers.json", "/var/lib/ostack-k8s/artifact/calicoctl.json"]) }}
