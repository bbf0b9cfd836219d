{%- from "bundle/macros.jinja" import installed with context %}
{%- from "etcd/map.jinja" import etcd with context %}
{%- set archive = "etcd-v" ~ pillar["bundle"]["artifact"]["etcd"]["version"] | replace("v", "") ~ "-linux-amd64/" %}
{{ installed("etcd", {archive ~ "etcd": "/usr/local/bin/etcd", archive ~ "etcdctl": "/usr/local/bin/etcdctl", archive ~ "etcdutl": "/usr/local/bin/etcdutl"}) }}

etcd user:
  user.present:
    - name: etcd
    - system: true
    - home: {{ etcd.server.data }}
    - createhome: false
    - shell: /usr/sbin/nologin

{{ etcd.server.data }}:
  file.directory:
    - user: etcd
    - group: etcd
    - mode: '0700'
    - require:
      - user: etcd user
