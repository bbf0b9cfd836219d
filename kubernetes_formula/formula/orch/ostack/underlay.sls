# salt-run state.orch ostack.underlay: the machines to the model, in order. A phase begins when the one before has succeeded
# on every machine; the first failure ends it. Masters come one by one, so that a change never stops two of them at once; another
# version of Kubernetes is refused, it comes by ostack.upgrade. `pillar='{"only": ["cmp03.example.org"]}'` leaves the other
# machines alone (but for the labels that the first master gives); `absent` names machines that are not there at all.
{%- set only = pillar.get("only") or pillar["machine"] | list %}
{%- set config, masters, nodes, storage = [], [], [], [] %}
{%- for machine, about in pillar["machine"] | dictsort %}
{%-   for place, roles in [(config, ["config"]), (masters, ["kube_master"])] if about.role | select("in", roles) | list %}
{%-     do place.append(machine) %}
{%-   else %}
{%-     do (nodes if about.role | select("in", ["kube_control", "kube_compute"]) | list else storage).append(machine) %}
{%-   endfor %}
{%- endfor %}

{%- macro phase(name, machines, states=[]) %}
{%- set machines = machines | select("in", only) | list %}
{%- if machines %}
{{ name }}:
  salt.state:
    - tgt: {{ machines | json }}
    - tgt_type: list
{%- if states %}
    - sls: {{ states | json }}
{%- else %}
    - highstate: true
{%- endif %}
    - failhard: true
    - require: [salt: {{ phases[-1] | json }}]
{%- do phases.append(name) %}
{%- endif %}
{%- endmacro %}

{%- set phases = ["every machine answers", "modules and states of this formula", "Kubernetes is of the model's version"] %}
every machine answers:
  salt.runner:
    - name: ostack.answers
    - machines: {{ only | sort | json }}
    - master: {{ pillar.get("master", "") | json }}
    - failhard: true

# A run of some states alone does not do this by itself.
modules and states of this formula:
  salt.function:
    - name: saltutil.sync_all
    - tgt: {{ (only + config) | unique | sort | json }}
    - tgt_type: list
    - kwarg: {refresh: false}
    - failhard: true
    - require: [salt: every machine answers]

Kubernetes is of the model's version:
  salt.function:
    - name: kubernetes_node.same_version
    - tgt: {{ config | json }}
    - tgt_type: list
    - arg: {{ [pillar["kubernetes"], pillar["machine"] | list] | json }}
    - failhard: true
    - require: [salt: modules and states of this formula]

{{ phase("config", config, ["linux", "config"]) }}
{%- for master in masters %}
{{ phase("etcd of " ~ master, [master], ["linux", "etcd.server"]) }}
{%- endfor %}
{{ phase("masters", (config + masters[:1]) | unique) }}
{%- for master in masters[1:] if master not in config %}
{{ phase("master " ~ master, [master]) }}
{%- endfor %}
{{ phase("nodes", nodes) }}
{{ phase("storage", storage) }}

{#- a Node gets its labels and taints when it has registered; a machine that is new needs them, whoever else is left alone -#}
{%- if masters and masters[0] not in pillar.get("absent", []) %}
labels:
  salt.state:
    - tgt: {{ masters[0] | json }}
    - sls: kubernetes.master.nodes
    - failhard: true
    - require: [salt: {{ phases[-1] | json }}]
{%- endif %}
