# salt-run state.orch ostack.restore pillar='{"name": "kmst01.example.org", "snapshot": "/var/backups/etcd/….db"}': the cluster's data from
# a snapshot that lies on that master. All API servers and members stop; that master starts a cluster of its own with the
# snapshot's data, the others join it anew. Old data is set aside on each machine.
{%- set machines, name, steps = pillar["machine"], pillar.get("name", ""), [] %}
{%- set masters = machines | dictsort | selectattr("1.role.kube_master", "defined") | map("first") | list %}
{%- if name not in masters or not pillar.get("snapshot") %}
{{- raise("ostack.restore: needs pillar='{\"name\": a master of " ~ masters | join(", ") ~ ", \"snapshot\": a file on it}'") }}
{%- endif %}
{%- from "ostack/rolling.jinja" import step with context %}
{%- set others = masters | reject("equalto", name) | list %}

{%- if others %}
{{ step("the other members stop", "salt.state") }}
    - tgt: {{ others | json }}
    - tgt_type: list
    - sls: etcd.server.forget
{%- endif %}
{{ step("the snapshot is restored", "salt.state") }}
    - tgt: {{ name }}
    - sls: etcd.server.restore
    - pillar: {snapshot: {{ pillar["snapshot"] | json }}}
{{ step("states of " ~ name, "salt.state") }}
    - tgt: {{ name }}
    - highstate: true
{%- if others %}
{{ step("the other members join", "salt.state") }}
    - tgt: {{ others | json }}
    - tgt_type: list
    - highstate: true
{%- endif %}
