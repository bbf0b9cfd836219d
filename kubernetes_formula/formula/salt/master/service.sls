{%- from "salt/map.jinja" import settings with context %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - salt.master.pki

{#- the formula is where this state comes from, with a master and without -#}
{%- set formula = opts["file_roots"]["base"] | first %}
/etc/salt/master:
  file.serialize:
    - serializer: yaml
    - makedirs: true
    - dataset: {{ salt["slsutil.merge"](settings.master.config, {
        "id": grains.id ~ "_master",
        "file_roots": {"base": [formula, formula ~ "/orch"]},
        "ext_pillar": [{"ostack_k8s": {"repository": "/srv/ostack-k8s/model"}}],
      }) | json }}

{{ daemon("salt-master", {
  "description": "Salt master",
  "command": "/opt/ostack-k8s/bin/salt-master",
  "service": salt["slsutil.merge"]({"Type": "notify", "NotifyAccess": "all"}, settings.master.service),
}, [{"file": "/etc/salt/master"}, {"file": "/etc/salt/pki/master/*"}]) }}
