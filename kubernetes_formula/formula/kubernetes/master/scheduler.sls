{%- from "kubernetes/macros.jinja" import binary, kubeconfig with context %}
{%- from "kubernetes/map.jinja" import kubernetes with context %}
{%- from "systemd/confined.jinja" import confined %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - kubernetes.authority
  - kubernetes.master.pki

{%- set file = "/etc/kubernetes/scheduler.kubeconfig" %}
{{ binary("kube-scheduler") }}
{{ kubeconfig(file, "https://127.0.0.1:6443", "/etc/kubernetes/pki/scheduler", user="kubernetes") }}

{%- set flags = {
  "authentication-kubeconfig": file,
  "authorization-kubeconfig": file,
  "bind-address": "127.0.0.1",
  "kubeconfig": file,
  "leader-elect": true,
  "profiling": false,
} %}
{%- do flags.update(kubernetes.master.scheduler.flags) %}
{{ daemon("kube-scheduler", {
  "description": "Kubernetes scheduler",
  "command": "/usr/local/bin/kube-scheduler",
  "after": ["kube-apiserver"],
  "flags": flags,
  "service": salt["slsutil.merge"](confined("kubernetes", []) | load_json, kubernetes.master.scheduler.service),
}, [
  {"artifact": "kube-scheduler"},
  {"file": file},
  {"file": "/etc/kubernetes/pki/ca.crt"},
  {"file": "/etc/kubernetes/pki/scheduler*"},
]) }}
