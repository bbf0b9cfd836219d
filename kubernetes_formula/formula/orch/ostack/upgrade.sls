# salt-run state.orch ostack.upgrade: another version of Kubernetes, after `kubernetes_version` was changed in the model. Masters one
# by one, then the nodes whose kubelet is another version, one by one (or `pillar='{"by": "rack"}'`: all of a rack at a time), each
# drained before and given back after. Stops at the first failure; run again, it goes on there.
{%- set machines = pillar["machine"] %}
{%- set config = machines | dictsort | selectattr("1.role.config", "defined") | map("first") | first %}
{%- set about = salt["saltutil.cmd"](config, "kubernetes_node.upgrade", arg=[pillar["kubernetes"]]).get(config, {}).get("ret", {}) %}
{%- if about is not mapping %}
{{- raise("ostack.upgrade: " ~ about) }}
{%- endif %}
{%- if about.get("refused") %}
{{- raise("ostack.upgrade: " ~ about.refused) }}
{%- endif %}
{%- if not about.get("running") %}
{{- raise("ostack.upgrade: no API answers, so nothing can be moved away from a machine; bring it back first (ostack.underlay is for a cloud that has none yet)") }}
{%- endif %}
{%- set nodes, steps = about.get("nodes", []), [] %}
{%- from "ostack/rolling.jinja" import rolling with context %}

{%- set masters, groups = [], {} %}
{%- for name, machine in machines | dictsort %}
{%-   if "kube_master" in machine.role %}
{%-     do masters.append(name) %}
{%-   elif name in nodes %}
{%-     do groups.setdefault(machine.get("rack", "") if pillar.get("by") == "rack" and machine.get("rack") else name, []).append(name) %}
{%-   endif %}
{%- endfor %}
{%- for name in masters %}
{{ rolling([name]) }}
{%- endfor %}
{%- for _, group in groups | dictsort %}
{{ rolling(group) }}
{%- endfor %}
