{%- from "salt/map.jinja" import settings with context %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - salt.minion.pki

/etc/salt/minion.d/ostack-k8s.conf:
  file.serialize:
    - serializer: yaml
    - makedirs: true
    - dataset: {{ salt["slsutil.merge"](settings.minion.config, {"id": grains.id, "master": settings.minion.master}) | json }}

{#- KillMode: the job that restarts its own minion goes on and answers -#}
{{ daemon("salt-minion", {
  "description": "Salt minion",
  "command": "/opt/ostack-k8s/bin/salt-minion",
  "service": salt["slsutil.merge"]({"Type": "notify", "NotifyAccess": "all", "KillMode": "process"}, settings.minion.service),
}, [{"file": "/etc/salt/minion.d/ostack-k8s.conf"}, {"file": "/etc/salt/pki/minion/*"}]) }}
