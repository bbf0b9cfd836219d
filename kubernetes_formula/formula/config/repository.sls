# The bare repository that operators push to. Its hooks are the model's own, as in the checkout.
{%- set bare = "/srv/ostack-k8s/model.git" %}
bare repository of the model:
  cmd.run:
    - name: git clone --quiet --bare /srv/ostack-k8s/model {{ bare }}
    - creates: {{ bare }}/HEAD

{%- for hook in ["pre-receive", "post-receive"] %}
{{ bare }}/hooks/{{ hook }}:
  file.managed:
    - source: /srv/ostack-k8s/model/ci/git-hook/{{ hook }}
    - mode: '0755'
    - makedirs: true
    - require:
      - cmd: bare repository of the model
{% endfor %}
