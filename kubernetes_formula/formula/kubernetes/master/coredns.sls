# The cluster's DNS, from the bundle's image.
{%- from "kubernetes/map.jinja" import kubernetes with context %}
include:
  - kubernetes.master.ready

{%- set coredns = kubernetes.master.coredns %}
cluster DNS:
  kubernetes_object.present:
    - require:
      - wait: the API is ready
    - objects:
      - apiVersion: v1
        kind: ServiceAccount
        metadata: {name: coredns, namespace: kube-system}
      - apiVersion: rbac.authorization.k8s.io/v1
        kind: ClusterRole
        metadata: {name: 'system:coredns'}
        rules:
          - {apiGroups: [''], resources: [services, pods, namespaces], verbs: [list, watch]}
          - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
      - apiVersion: rbac.authorization.k8s.io/v1
        kind: ClusterRoleBinding
        metadata: {name: 'system:coredns'}
        roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:coredns'}
        subjects: [{kind: ServiceAccount, name: coredns, namespace: kube-system}]
      - apiVersion: v1
        kind: ConfigMap
        metadata: {name: coredns, namespace: kube-system}
        data:
          Corefile: |
            .:5353 {
                errors
                health :8180 {
                    lameduck 5s
                }
                ready :8181
                kubernetes {{ kubernetes.common.domain }} in-addr.arpa ip6.arpa {
                    pods insecure
                }
                forward . /etc/resolv.conf
                cache 30
                loop
                reload
                loadbalance
            }
      - apiVersion: apps/v1
        kind: Deployment
        metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}
        spec:
          replicas: {{ coredns.replicas }}
          selector: {matchLabels: {k8s-app: kube-dns}}
          template:
            metadata:
              labels: {k8s-app: kube-dns}
              annotations: {ostack-k8s.io/authority: '{{ (pillar["pki"]["authority"]["kubernetes"]["certificate"] | sha256)[:12] }}'}  # read at its start only
            spec:
              serviceAccountName: coredns
              priorityClassName: system-cluster-critical
              dnsPolicy: Default
              tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}]
              topologySpreadConstraints:
                - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {k8s-app: kube-dns}}}
              containers:
                - name: coredns
                  image: {{ pillar["bundle"]["artifact"]["coredns"]["image"] }}
                  imagePullPolicy: IfNotPresent
                  args: [-conf, /etc/coredns/Corefile]
                  securityContext: {runAsUser: 65534, runAsNonRoot: true, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
                  livenessProbe: {httpGet: {path: /health, port: 8180}}
                  readinessProbe: {httpGet: {path: /ready, port: 8181}, periodSeconds: 3}
                  resources: {requests: {cpu: 50m, memory: 40Mi}, limits: {memory: {{ coredns.memory }}}}
                  volumeMounts: [{name: config, mountPath: /etc/coredns, readOnly: true}]
              volumes: [{name: config, configMap: {name: coredns}}]
      - apiVersion: v1
        kind: Service
        metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
        spec:
          clusterIP: {{ kubernetes.common.dns }}
          selector: {k8s-app: kube-dns}
          ports:
            - {name: dns, port: 53, protocol: UDP, targetPort: 5353}
            - {name: dns-tcp, port: 53, protocol: TCP, targetPort: 5353}
