# Whether every machine peers with every other. Pods are to keep their routes: the mesh goes when all that reflectors need is there
# (each machine gives up a session when others brought what it brought: files/bird-reload.sh), and comes before they go.
{%- from "calico/map.jinja" import calico, reflectors with context %}
include:
  - calico.cluster.types
{%- if reflectors %}
  - calico.cluster.peers
  - kubernetes.master.nodes
{%- endif %}

mesh of the machines:
  kubernetes_object.present:
    - require:
      - wait: the API knows Calico's kinds
{%- if reflectors %}
      - kubernetes_object: no other peers
{%-   for name in reflectors %}
      - kubernetes_node: node {{ name }}
{%-   endfor %}
    - order: last
{%- endif %}
    - objects:
      - apiVersion: crd.projectcalico.org/v1
        kind: BGPConfiguration
        metadata: {name: default}
        spec:
          asNumber: {{ calico.bgp.as_number }}
          serviceLoadBalancerIPs: {{ ([{"cidr": calico.balancer.cidr}] if calico.balancer.cidr else []) | json }}
          nodeToNodeMeshEnabled: {{ (not reflectors) | json }}
