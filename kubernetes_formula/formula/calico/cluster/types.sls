# Calico's kinds of objects, as upstream publishes them.
{%- from "bundle/macros.jinja" import installed with context %}
include:
  - kubernetes.master.ready

{%- set file = "/usr/local/share/ostack-k8s/calico-crds.yaml" %}
{{ installed("calico-crds", {"": file}) }}
    - mode: '0644'

kinds of Calico:
  kubernetes_object.present:
    - file: {{ file }}
    - require:
      - artifact: calico-crds
      - wait: the API is ready

# new kinds take a moment; those that were there before are known
the API knows Calico's kinds:
  wait.succeeds:
    - command: [kubectl, --kubeconfig, /etc/kubernetes/admin.kubeconfig, wait, --for=condition=Established, --timeout=20s, -f, {{ file }}]
    - onchanges:
      - kubernetes_object: kinds of Calico
