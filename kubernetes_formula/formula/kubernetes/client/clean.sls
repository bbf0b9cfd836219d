# Takes kubectl and the administrator's access away.
{%- from "systemd/macros.jinja" import clean with context %}
{{ clean([], ["/root/.kube/config", "/etc/kubernetes/admin.kubeconfig", "/etc/kubernetes/pki/admin.crt", "/etc/kubernetes/pki/admin.key",
  "/usr/local/bin/kubectl", "/var/lib/ostack-k8s/artifact/kubectl.json"]) }}
