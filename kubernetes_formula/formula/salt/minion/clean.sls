# The machine leaves the master: its service and its keys go; Salt itself and what an installer configured stay.
{%- from "systemd/macros.jinja" import clean with context %}
{{ clean(["salt-minion"], ["/etc/systemd/system/salt-minion.service", "/etc/salt/minion.d/ostack-k8s.conf", "/etc/salt/pki/minion"]) }}
