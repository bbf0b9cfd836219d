# salt-run state.orch ostack.underlay: the machines to the model, in order. A phase begins when the one before has succeeded
# on every machine; the first failure ends it. `pillar='{"only": ["cmp03.example.org"]}'` leaves the other machines alone
# (but for the labels that the first master gives); `absent` names machines that are not there at all.
{%- set only = pillar.get("only") or pillar["machine"] | list %}

{%- macro phase(name, roles, states, without=[]) %}
{%- set machines = [] %}
{%- for machine, about in pillar["machine"] | dictsort if machine in only %}
{%-   if about.role | select("in", roles) | list and not about.role | select("in", without) | list %}
{%-     do machines.append(machine) %}
{%-   endif %}
{%- endfor %}
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

{%- set phases = ["every machine answers"] %}
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
    - tgt: {{ only | sort | json }}
    - tgt_type: list
    - kwarg: {refresh: false}
    - failhard: true
    - require: [salt: every machine answers]
{%- do phases.append("modules and states of this formula") %}

{{ phase("config", ["config"], ["linux", "config"]) }}
{{ phase("etcd", ["kube_master"], ["linux", "etcd.server"]) }}
{{ phase("masters", ["config", "kube_master"], []) }}
{{ phase("nodes", ["kube_control", "kube_compute"], [], without=["config", "kube_master"]) }}
{{ phase("storage", ["storage"], [], without=["config", "kube_master", "kube_control", "kube_compute"]) }}

{#- a Node gets its labels and taints when it has registered; a machine that is new needs them, whoever else is left alone -#}
{%- set masters = [] %}
{%- for machine, about in pillar["machine"] | dictsort if "kube_master" in about.role %}
{%-   do masters.append(machine) %}
{%- endfor %}
{%- if masters and masters[0] not in pillar.get("absent", []) %}
labels:
  salt.state:
    - tgt: {{ masters[0] | json }}
    - sls: kubernetes.master.nodes
    - failhard: true
    - require: [salt: {{ phases[-1] | json }}]
{%- endif %}
