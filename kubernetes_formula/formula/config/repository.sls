{%- set bare = "/srv/ostack-k8s/model.git" %}
bare repository of the model:
  cmd.run:
    - name: git clone --quiet --bare /srv/ostack-k8s/model {{ bare }}
    - creates: {{ bare }}/HEAD

{%- for hook in ["pre-receive", "post-receive"] %}
{{ bare }}/hooks/{{ hook }}:
  file.managed:
    - source: salt://config/files/{{ hook }}.sh
    - mode: '0755'
    - makedirs: true
    - require:
      - cmd: bare repository of the model
{% endfor %}
