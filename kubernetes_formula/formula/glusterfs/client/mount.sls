# Each volume as a service that mounts it: unlike a mount unit it tries again for as long as the servers are away.
# The servers' addresses are environment: another list restarts no mount, pods would lose theirs.
{%- from "glusterfs/map.jinja" import glusterfs, leader, servers with context %}
{%- from "systemd/macros.jinja" import daemon with context %}
include:
  - glusterfs.client.install
  - glusterfs.tls
{%- if grains.id in (servers | map("first")) %}
  - glusterfs.server
{%- endif %}

/etc/glusterfs/servers.env:
  file.managed:
    - contents: SERVERS={% for _, server in servers %}--volfile-server={{ server.address }} {% endfor %}
    - makedirs: true

{%- for name, volume in glusterfs.client.volume | dictsort if volume is not none %}
{%- set path = glusterfs.client.directory ~ "/" ~ name %}
{{ path }}:
  mount_point.present

{{ name }} is served:
  wait.succeeds:
    - command:
      - sh
      - -c
      - >-
        mountpoint -q {{ path }} || for server in {{ servers | map(attribute=1) | map(attribute="address") | join(" ") }}; do
        timeout 5 gluster --mode=script --remote-host=$server volume info {{ name }} | grep -q 'Status: Started' && exit 0; done
    - timeout: 300
    - require:
      - pkg: packages of glusterfs.client
{%- if glusterfs.tls %}
      - sls: glusterfs.tls
{%- endif %}
{%- if grains.id in (servers | map("first")) %}
      - sls: glusterfs.server
{%- endif %}

{{ daemon("glusterfs-" ~ name, {
  "description": "GlusterFS volume " ~ name ~ " at " ~ path,
  "after": [glusterfs.service],
  "prepare": {"stale": "-/bin/sh -c 'mountpoint -q " ~ path ~ " || umount --lazy " ~ path ~ " 2>/dev/null'"},
  "command": "/usr/sbin/glusterfs --no-daemon --process-name=fuse --volfile-id=" ~ name
    ~ " --fuse-mountopts=nodev,nosuid --log-level=WARNING $SERVERS " ~ path,
  "service": {"Type": "exec", "EnvironmentFile": "/etc/glusterfs/servers.env"},
}) }}
    - require:
      - file: /etc/glusterfs/servers.env
      - mount_point: {{ path }}
      - wait: {{ name }} is served

{{ name }} is mounted:
  wait.succeeds:
    - command: [mountpoint, -q, {{ path }}]
    - timeout: 300
    - require:
      - service: glusterfs-{{ name }}

{%- if leader %}
{%- for directory, owner in glusterfs.server.volume.get(name, {}).get("directory", {}) | dictsort if owner is not none %}
{{ path }}/{{ directory }}:
  file.directory:
    - user: {{ owner.get("user", "root") }}
    - group: {{ owner.get("group", "root") }}
    - mode: '{{ owner.get("mode", "0755") }}'
    - require:
      - wait: {{ name }} is mounted
{%- endfor %}
{%- endif %}
{%- endfor %}
