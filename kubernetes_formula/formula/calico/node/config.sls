{%- from "calico/map.jinja" import calico with context %}
{%- from "kubernetes/macros.jinja" import kubeconfig with context %}
{%- from "kubernetes/map.jinja" import kubernetes with context %}
{%- from "pki/macros.jinja" import certificate with context %}
include:
  - kubernetes.authority

{{ certificate("calico-node", "/etc/calico/pki") }}
{{ kubeconfig("/etc/calico/node.kubeconfig", kubernetes.common.server, "/etc/calico/pki/calico-node") }}

/etc/calico/node.env:
  file.managed:
    - source: salt://calico/files/node.env.jinja
    - template: jinja
    - context: {{ {"environment": salt["slsutil.merge"]({
        "CALICO_K8S_NODE_REF": grains.id,
        "CALICO_MANAGE_CNI": false,
        "CALICO_NETWORKING_BACKEND": "bird",
        "CLUSTER_TYPE": "k8s,bgp",
        "DATASTORE_TYPE": "kubernetes",
        "FELIX_DATASTORETYPE": "kubernetes",
        "FELIX_DebugSkipCTLBCleanup": true,
        "FELIX_FELIXHOSTNAME": grains.id,
        "FELIX_HEALTHENABLED": true,
        "FELIX_LOGFILEPATH": "none",
        "FELIX_LOGSEVERITYFILE": "none",
        "FELIX_LOGSEVERITYSYS": "none",
        "IP": calico.node.address ~ "/" ~ calico.node.network.split("/")[-1],
        "IP6": "none",
        "KUBECONFIG": "/etc/calico/node.kubeconfig",
        "NAMESPACE": "calico-system",
        "NODENAME": grains.id,
        "NO_DEFAULT_POOLS": true,
        "WAIT_FOR_DATASTORE": true,
      }, calico.node.environment)} | json }}

/etc/calico/confd/conf.d/bird.toml:
  file.managed:
    - source: salt://calico/files/bird.toml
    - makedirs: true

/etc/calico/confd/templates/bird.cfg.template:
  file.managed:
    - source: salt://calico/files/bird.cfg.template
    - makedirs: true

/etc/calico/confd/reload:
  file.managed:
    - source: salt://calico/files/bird-reload.sh
    - mode: '0755'
    - makedirs: true
