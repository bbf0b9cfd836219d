# Takes the server away; bricks and what they hold stay.
{%- from "glusterfs/map.jinja" import glusterfs with context %}
{%- from "systemd/macros.jinja" import clean with context %}
{{ clean([glusterfs.service], ["/etc/systemd/system/" ~ glusterfs.service ~ ".service.d/ostack-k8s.conf",
  "/var/lib/glusterd/secure-access", glusterfs.certificates ~ "/glusterfs.ca", glusterfs.certificates ~ "/glusterfs.pem", glusterfs.certificates ~ "/glusterfs.key"]) }}
# those of bricks and of healing outlive the service
processes of glusterfs:
  cmd.run:
    - name: pkill -x 'glusterfsd|glustershd'
    - onlyif: pgrep -x 'glusterfsd|glustershd'
    - require:
      - service: {{ glusterfs.service }}
