# TLS between servers and clients, where the pillar wants it: gluster looks for these files and nowhere else.
{%- from "glusterfs/map.jinja" import glusterfs with context %}
{%- from "pki/macros.jinja" import private, public with context %}
{%- if glusterfs.tls %}
{{ public(glusterfs.certificates ~ "/glusterfs.ca", "pki:authority:glusterfs:certificate") }}
{{ public(glusterfs.certificates ~ "/glusterfs.pem", "pki:certificate:glusterfs:certificate") }}
{{ private(glusterfs.certificates ~ "/glusterfs.key", "pki:certificate:glusterfs:private_key") }}
/var/lib/glusterd/secure-access:
  file.managed:
    - contents: ''
    - makedirs: true
{%- endif %}
