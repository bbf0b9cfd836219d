{#- What a machine runs: the applications of its roles, in the model's order; the record of success comes last. #}
base:
  '{{ grains.id }}':
{%- for application in pillar["_reclass_"]["applications"] %}
    - {{ application }}
{%- endfor %}
    - applied
