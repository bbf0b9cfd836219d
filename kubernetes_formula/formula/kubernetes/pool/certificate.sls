# Certificates of the machine that pods mount, each beside its authority's.
{%- from "kubernetes/map.jinja" import kubernetes with context %}
{%- from "pki/macros.jinja" import authority, certificate with context %}
{%- for name, place in kubernetes.pool.certificate | dictsort if place is not none %}
{{ authority(pillar.pki.certificate[name].authority, place.directory ~ "/ca.crt") }}
{{ certificate(name, place.directory) }}
{%- endfor %}
