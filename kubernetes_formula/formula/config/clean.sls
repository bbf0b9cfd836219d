# Takes hooks and pipeline away; the repository, the checkout and the reports stay.
{%- from "systemd/macros.jinja" import clean with context %}
{{ clean(["ostack-k8s-bundle"], ["/etc/systemd/system/ostack-k8s-bundle.service", "/srv/ostack-k8s/model.git/hooks/pre-receive", "/srv/ostack-k8s/model.git/hooks/post-receive",
  "/etc/systemd/system/ostack-k8s-pipeline@.service"]) }}
