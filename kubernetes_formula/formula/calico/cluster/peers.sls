# Whom machines peer with beside the mesh: switches (all machines, or those of a rack), and in the mesh's stead route reflectors.
{%- from "calico/map.jinja" import calico, reflectors with context %}
{%- from "kubernetes/map.jinja" import kubernetes with context %}
include:
  - calico.cluster.access
  - calico.cluster.types
{%- if not reflectors %}
  - calico.cluster.mesh
{%- endif %}

{%- set peers, passwords = {}, {} %}
{%- for name, peer in calico.bgp.peer | dictsort if peer is not none %}
{%-   set spec = {"peerIP": peer.address, "asNumber": peer.as_number, "filters": ["own-routes"]} %}
{%-   if peer.get("rack") %}
{%-     do spec.update({"nodeSelector": "ostack-k8s.io/rack == '" ~ peer.rack ~ "'"}) %}
{%-   endif %}
{%-   if peer.get("password") %}
{%-     do spec.update({"password": {"secretKeyRef": {"name": "bgp-passwords", "key": name}}}) %}
{%-     do passwords.update({name: peer.password | base64_encode}) %}
{%-   endif %}
{%-   do peers.update({"switch-" ~ name: spec}) %}
{%- endfor %}
{%- for name in reflectors if not kubernetes.common.node.get(name) %}
{{-   raise("calico:bgp:reflector: " ~ name ~ " is no machine with pods; known: " ~ (kubernetes.common.node | sort | join(", "))) }}
{%- endfor %}
{%- if reflectors %}
{%-   do peers.update({"reflector": {"peerSelector": "has(ostack-k8s.io/route-reflector)", "nodeSelector": "all()"}}) %}
{%- endif %}
peers of the machines:
  kubernetes_object.present:
    - require:
      - wait: the API knows Calico's kinds
      - kubernetes_object: access of Calico
    - objects:
      - apiVersion: v1
        kind: Secret
        metadata: {name: bgp-passwords, namespace: calico-system}
        data: {{ passwords | json }}
      # a machine offers switches its own pods' routes, never what it learned from other machines
      - apiVersion: crd.projectcalico.org/v1
        kind: BGPFilter
        metadata: {name: own-routes}
        spec: {exportV4: [{action: Reject, source: RemotePeers}]}
{%- for name, spec in peers | dictsort %}
      - apiVersion: crd.projectcalico.org/v1
        kind: BGPPeer
        metadata: {name: {{ name }}, labels: {app.kubernetes.io/managed-by: ostack-k8s}}
        spec: {{ spec | json }}
{%- endfor %}

no other peers:
  kubernetes_object.only:
    - kind: bgppeers.crd.projectcalico.org
    - keep: {{ peers | sort | json }}
    - selector: app.kubernetes.io/managed-by=ostack-k8s
    - require:
      - kubernetes_object: peers of the machines
{%- if not reflectors %}
      - kubernetes_object: mesh of the machines
{%- endif %}
