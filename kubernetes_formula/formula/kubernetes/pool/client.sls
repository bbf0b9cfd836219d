# A kubelet whose client certificate is not (or no longer) good by the CA that signs now asks for another one, by its bootstrap token.
include:
  - kubernetes.authority
  - kubernetes.pool.kubelet

{%- set present = "/var/lib/kubelet/pki/kubelet-client-current.pem" %}
{%- for file in ["/var/lib/kubelet/kubeconfig", present] %}
{{ file }}:
  file.absent:
    - onlyif:
      - test -e {{ present }}
      - '! openssl verify -trusted /etc/kubernetes/pki/ca.signing.crt {{ present }}'
    - require:
      - file: /etc/kubernetes/pki/ca.signing.crt
    - watch_in:
      - service: kubelet
{% endfor %}
