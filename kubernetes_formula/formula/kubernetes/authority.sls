# The cluster's CA, which every client and server of Kubernetes on this machine trusts.
{%- from "pki/macros.jinja" import authority with context %}
{{ authority("kubernetes", "/etc/kubernetes/pki/ca.crt") }}
