{%- from "calico/map.jinja" import calico with context %}
{%- from "systemd/confined.jinja" import confined, restrained %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - calico.node.install
  - calico.node.config
  - kubernetes.pool.kubelet

{%- set program = "/usr/local/bin/calico-node" %}
{%- set environment = {"EnvironmentFile": "/etc/calico/node.env"} %}
{%- set access = [
  {"artifact": "calico-node"},
  {"file": "/etc/calico/node.env"},
  {"file": "/etc/calico/node.kubeconfig"},
  {"file": "/etc/calico/pki/calico-node*"},
  {"file": "/etc/kubernetes/pki/ca.crt"},
] %}
{#- A directory that is not there keeps a confined program from starting, and the first of these to start makes it for all of them. #}
{%- set shared = {"RuntimeDirectory": "calico", "RuntimeDirectoryPreserve": "yes"} %}
{%- set service = {
  "startup": [confined("root", ["/run/calico", "/var/lib/calico", "/var/log/calico"]) | load_json, environment, shared, {
    "StateDirectory": "calico",
    "LogsDirectory": "calico",
    "Type": "oneshot",
    "RemainAfterExit": "yes",
    "Restart": "on-failure",
    "TimeoutStartSec": 300,
  }],
  "felix": [restrained() | load_json, environment, {"LockPersonality": "yes", "NoNewPrivileges": "yes", "RestrictRealtime": "yes"}],
  "confd": [confined("root", ["/run/calico"]) | load_json, environment, shared],
  "bird": [confined("root", ["/run/calico"]) | load_json, shared, {
    "CapabilityBoundingSet": "CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_NET_RAW",
    "ExecReload": "/usr/sbin/birdc -s /run/calico/bird.ctl configure",
    "KillSignal": "SIGKILL",
  }],
} %}
{%- macro lines(program) %}{{ salt["slsutil.merge_all"](service[program] + [calico.service[program]]) | json }}{% endmacro %}
{#- it fails until the kubelet has brought the machine into the cluster -#}
{{ daemon("calico-startup", {
  "description": "Calico: this machine's BGP address",
  "command": "/bin/sh -c 'until " ~ program ~ " -startup; do sleep 1; done'",
  "after": ["kubelet"],
  "service": lines("startup") | load_json,
}, access) }}
    - require:
      - service: kubelet

{{ daemon("calico-felix", {
  "description": "Calico: routes to pods, policy",
  "command": program ~ " -felix",
  "after": ["calico-startup"],
  "wants": ["calico-startup"],
  "service": lines("felix") | load_json,
}, access) }}

{{ daemon("calico-confd", {
  "description": "Calico: BIRD's configuration",
  "command": program ~ " -confd -confd-confdir=/etc/calico/confd",
  "after": ["calico-startup"],
  "wants": ["calico-startup"],
  "service": lines("confd") | load_json,
}, access + [{"file": "/etc/calico/confd/*"}]) }}

{#- killed, not asked to end: its peers then see a lost session and keep the routes until it is back (graceful restart) -#}
{{ daemon("calico-bird", {
  "description": "Calico: BGP",
  "command": "/usr/sbin/bird -f -R -P /run/calico/bird.pid -s /run/calico/bird.ctl -c /run/calico/bird.cfg",
  "after": ["calico-confd"],
  "wants": ["calico-confd"],
  "prepare": {"configured": "/bin/sh -c 'cd /run/calico; until test -s bird.cfg; do sleep 0.2; done; cp bird.cfg taken.cfg'"},
  "service": lines("bird") | load_json,
}) }}
    - require:
      - pkg: bird
