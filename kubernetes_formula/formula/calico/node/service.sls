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
{#- it fails until the kubelet has brought the machine into the cluster -#}
{{ daemon("calico-startup", {
  "description": "Calico: this machine's BGP address",
  "command": "/bin/sh -c 'until " ~ program ~ " -startup; do sleep 1; done'",
  "after": ["kubelet"],
  "service": salt["slsutil.merge"](environment, {"Type": "oneshot", "RemainAfterExit": "yes", "Restart": "on-failure", "TimeoutStartSec": 300}),
}, access) }}
    - require:
      - service: kubelet

{{ daemon("calico-felix", {
  "description": "Calico: routes to pods, policy",
  "command": program ~ " -felix",
  "after": ["calico-startup"],
  "wants": ["calico-startup"],
  "service": environment,
}, access) }}

{{ daemon("calico-confd", {
  "description": "Calico: BIRD's configuration",
  "command": program ~ " -confd -confd-confdir=/etc/calico/confd",
  "after": ["calico-startup"],
  "wants": ["calico-startup"],
  "service": salt["slsutil.merge"](environment, {"RuntimeDirectory": "calico", "RuntimeDirectoryPreserve": "yes"}),
}, access + [{"file": "/etc/calico/confd/*"}]) }}

{#- killed, not asked to end: its peers then see a lost session and keep the routes until it is back (graceful restart) -#}
{{ daemon("calico-bird", {
  "description": "Calico: BGP",
  "command": "/usr/sbin/bird -f -R -s /run/calico/bird.ctl -c /run/calico/bird.cfg",
  "after": ["calico-confd"],
  "wants": ["calico-confd"],
  "prepare": {"configured": "/bin/sh -c 'until test -s /run/calico/bird.cfg; do sleep 0.2; done'"},
  "service": {"ExecReload": "/usr/sbin/birdc -s /run/calico/bird.ctl configure", "KillSignal": "SIGKILL"},
}) }}
    - require:
      - pkg: bird
