# Takes the registry's service and configuration away; the images in its data directory stay.
{%- from "systemd/macros.jinja" import clean with context %}
{{ clean(["docker-registry"], ["/etc/docker/registry"]) }}
