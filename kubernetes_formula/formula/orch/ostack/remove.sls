# salt-run state.orch ostack.remove pillar='{"name": "cmp03.example.org"}': a machine that works leaves the cloud. Its pods move, Kubernetes
# and etcd forget it, and it is bare again. Then `ostack-k8s node remove`, commit and push. (A machine that is dead needs only those:
# the next `ostack.underlay` forgets it.)
{%- set machines, name, steps, nodes = pillar["machine"], pillar.get("name", ""), [], [] %}
{%- if name not in machines %}
{{- raise("ostack.remove: the model has no machine '" ~ name ~ "'; give one with pillar='{\"name\": …}'") }}
{%- endif %}
{%- set config = machines | dictsort | selectattr("1.role.config", "defined") | map("first") | first %}
{%- set others = machines | dictsort | selectattr("1.role.kube_master", "defined") | map("first") | reject("equalto", name) | list %}
{%- if name == config or (not others and "kube_master" in machines[name].role) %}
{{- raise("ostack.remove: " ~ name ~ " is the only one of its kind; the cloud cannot be without it") }}
{%- endif %}
{%- from "ostack/rolling.jinja" import kubectl, step with context %}

{{ kubectl("Kubernetes forgets " ~ name, "remove", name) }}
{%- if "kube_master" in machines[name].role %}
{{ step("etcd forgets " ~ name, "salt.function") }}
    - name: etcd.forget
    - tgt: {{ others[0] }}
    - arg: [{{ name }}]
{%- endif %}
{{ step(name ~ " is bare", "salt.state") }}
    - tgt: {{ name }}
    - sls: kubernetes.clean
