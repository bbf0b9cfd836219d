# salt-run state.orch ostack.remove pillar='{"name": "cmp03.example.org"}': a machine that works leaves the cloud. Its pods move, Kubernetes,
# etcd and Gluster forget it, and it is bare again. Then `ostack-k8s node remove`, commit and push: with it the Salt master forgets
# it too. (A machine that is dead needs only those: the next `ostack.underlay` forgets it.)
{%- set machines, name, steps, nodes = pillar["machine"], pillar.get("name", ""), [], [] %}
{%- if name not in machines %}
{{- raise("ostack.remove: the model has no machine '" ~ name ~ "'; give one with pillar='{\"name\": …}'") }}
{%- endif %}
{%- set roles = machines[name].role %}
{%- set config = machines | dictsort | selectattr("1.role.config", "defined") | map("first") | first %}
{%- set masters = machines | dictsort | selectattr("1.role.kube_master", "defined") | map("first") | reject("equalto", name) | list %}
{%- set storage = machines | dictsort | selectattr("1.role.storage", "defined") | map("first") | reject("equalto", name) | list %}
{%- if name == config or (not masters and "kube_master" in roles) or (not storage and "storage" in roles) %}
{{- raise("ostack.remove: " ~ name ~ " is the only one of its kind; the cloud cannot be without it") }}
{%- endif %}
{%- from "ostack/rolling.jinja" import kubectl, step with context %}

{{ kubectl("Kubernetes forgets " ~ name, "remove", name) }}
{%- if "kube_master" in roles %}
{{ step("etcd forgets " ~ name, "salt.function") }}
    - name: etcd.forget
    - tgt: {{ masters[0] }}
    - arg: [{{ name }}]
{%- endif %}
{%- set states = ["kubernetes.clean"] %}
{%- if "storage" in roles %}
{#- the first of the others keeps the pool without it: its bricks go to a machine that has none, or go #}
{{ step("Gluster forgets " ~ name, "salt.state") }}
    - tgt: {{ storage[0] }}
    - sls: glusterfs.server.pool
    - pillar: {glusterfs: {server: {member: {{ {name: none} | json }}}, client: {member: {{ {name: none} | json }}}}}
{%-   do states.extend(["glusterfs.client.clean", "glusterfs.server.clean"]) %}
{%- elif "kube_control" in roles %}
{%-   do states.append("glusterfs.client.clean") %}
{%- endif %}
{{ step(name ~ " is bare", "salt.state") }}
    - tgt: {{ name }}
    - sls: {{ states | json }}
