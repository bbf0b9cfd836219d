{%- from "pki/macros.jinja" import private, public with context %}
{%- set directory = "/etc/salt/pki/minion" %}
{{ private(directory ~ "/minion.pem", "pki:keypair:salt-minion:private_key") }}
{{ public(directory ~ "/minion.pub", "pki:keypair:salt-minion:public_key") }}
{#- with this file the minion obeys this master and no other -#}
{%- for master in pillar["pki"]["public_key"]["salt-master"] | sort %}
{{ public(directory ~ "/minion_master.pub", "pki:public_key:salt-master:" ~ master) }}
{%- endfor %}
