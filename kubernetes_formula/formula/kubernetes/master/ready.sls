# Nothing after this is done before etcd has a quorum and the API answers.
include:
  - kubernetes.gateway
  - kubernetes.master.apiserver

etcd answers:
  wait.succeeds:
    - command: [etcdctl, --endpoints, 'https://127.0.0.1:2379', --cacert, /etc/etcd/pki/client-ca.crt,
        --cert, /etc/etcd/pki/etcd-root.crt, --key, /etc/etcd/pki/etcd-root.key, endpoint, health]
    - timeout: 300

this API server is ready:
  wait.succeeds:
    - command: [kubectl, --kubeconfig, /etc/kubernetes/admin.kubeconfig, --server, 'https://127.0.0.1:6443', get, --raw, /readyz]
    - timeout: 300
    - require:
      - wait: etcd answers
      - service: kube-apiserver

the API is ready:
  wait.succeeds:
    - command: [kubectl, --kubeconfig, /etc/kubernetes/admin.kubeconfig, get, --raw, /readyz]
    - timeout: 60
    - require:
      - wait: this API server is ready
      - service: haproxy
