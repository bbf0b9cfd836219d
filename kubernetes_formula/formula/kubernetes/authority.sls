# The cluster's CA, which every client and server of Kubernetes on this machine trusts: while it is replaced two of them, and the
# first one signs. What takes one certificate only, and asks whether it is signed by that, reads ca.signing.crt.
{%- from "pki/macros.jinja" import authority with context %}
{%- set end = "-----END CERTIFICATE-----\n" %}
{{ authority("kubernetes", "/etc/kubernetes/pki/ca.crt") }}

/etc/kubernetes/pki/ca.signing.crt:
  file.managed:
    - contents: {{ (pillar["pki"]["authority"]["kubernetes"]["certificate"].split(end) | first ~ end) | json }}
    - mode: '0644'
    - makedirs: true
    - dir_mode: '0755'
