{%- from "salt/map.jinja" import settings with context %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - salt.master.pki

{#- the formula lies in our package, beside Salt -#}
{%- set formula = salt["cmd.run_stdout"]([grains.pythonexecutable, "-c",
  "from kubernetes_formula.salt_loader import FORMULA; print(FORMULA)"], python_shell=false) %}
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
