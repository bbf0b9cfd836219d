# Takes hooks and pipeline away; the repository, the checkout and the reports stay.
{%- from "systemd/macros.jinja" import clean with context %}
{{ clean([], ["/srv/ostack-k8s/model.git/hooks/pre-receive", "/srv/ostack-k8s/model.git/hooks/post-receive",
  "/etc/systemd/system/ostack-k8s-pipeline@.service"]) }}
