# The machine's own way to the API: HAProxy on 127.0.0.1:7443 before all masters, so that no single one has to be there.
{%- from "kubernetes/map.jinja" import kubernetes with context %}
include:
  - kubernetes.authority

package of haproxy:
  pkg.installed:
    - name: haproxy

/etc/haproxy/haproxy.cfg:
  file.managed:
    - source: salt://kubernetes/files/haproxy.cfg.jinja
    - template: jinja
    - context: {{ {"masters": kubernetes.common.master} | json }}
    - require:
      - pkg: package of haproxy

haproxy:
  service.running:
    - enable: true
    - reload: true
    - watch:
      - file: /etc/haproxy/haproxy.cfg
      - file: /etc/kubernetes/pki/ca.crt
