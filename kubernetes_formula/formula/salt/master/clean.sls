# Takes the Salt master away, with the keys it accepted; its checkout of the model stays.
{%- from "systemd/macros.jinja" import clean with context %}
{{ clean(["salt-master"], ["/etc/systemd/system/salt-master.service", "/etc/salt/master", "/etc/salt/pki/master"]) }}
