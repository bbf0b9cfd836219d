# The pools of addresses and felix as the model has them. No overlay: neither IPIP nor VXLAN.
{%- from "calico/map.jinja" import calico with context %}
include:
  - calico.cluster.types

settings of Calico:
  kubernetes_object.present:
    - require:
      - wait: the API knows Calico's kinds
    - objects:
      - apiVersion: crd.projectcalico.org/v1
        kind: IPPool
        metadata: {name: pods}
        spec:
          cidr: {{ calico.pool.cidr }}
          blockSize: {{ calico.pool.block_size }}
          natOutgoing: {{ calico.pool.nat | json }}
          ipipMode: Never
          vxlanMode: Never
          nodeSelector: all()
          allowedUses: [Workload, Tunnel]
          assignmentMode: Automatic
{%- if calico.balancer.cidr %}
      - apiVersion: crd.projectcalico.org/v1
        kind: IPPool
        metadata: {name: balancer}
        spec:
          cidr: {{ calico.balancer.cidr }}
          blockSize: {{ [calico.balancer.cidr.split("/")[1] | int, 26] | max }}
          ipipMode: Never
          vxlanMode: Never
          nodeSelector: all()
          allowedUses: [LoadBalancer]
          assignmentMode: Automatic
{%- endif %}
      - apiVersion: crd.projectcalico.org/v1
        kind: FelixConfiguration
        metadata: {name: default}
        spec: {{ calico.felix | json }}
