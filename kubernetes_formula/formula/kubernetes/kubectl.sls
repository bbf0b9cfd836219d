# The program that asks the API: for root, and for the states that write into the cluster.
{%- from "kubernetes/macros.jinja" import binary with context %}
{{ binary("kubectl") }}
