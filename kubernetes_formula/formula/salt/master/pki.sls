{%- from "pki/macros.jinja" import private with context %}
{%- set directory = "/etc/salt/pki/master" %}
{{ private(directory ~ "/master.pem", "pki:keypair:salt-master:private_key") }}
{#- Salt gives both the same mode -#}
{{ private(directory ~ "/master.pub", "pki:keypair:salt-master:public_key") }}

machines of the model:
  accepted_keys.exactly:
    - name: {{ directory }}/minions
    - pillar_path: pki:public_key:salt-minion
