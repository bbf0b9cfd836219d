{%- from "linux/map.jinja" import linux with context %}
# apt goes no further while an installation is half done, as when the machine lost its power in the middle of one
{#- asked here and not by `onlyif`, for which Salt would load every state there is: a second in each run -#}
{%- set half_done = salt["cmd.retcode"]("test -n \"$(ls /var/lib/dpkg/updates)\" || grep -qE "
  ~ "'^Status: .* (unpacked|half-configured|half-installed|triggers-awaited|triggers-pending)$' /var/lib/dpkg/status",
  python_shell=true, ignore_retcode=true) == 0 %}
{%- if half_done %}
interrupted installation of packages:
  cmd.run:
    - name: dpkg --force-confdef --force-confold --configure --pending
    - env: [DEBIAN_FRONTEND: noninteractive]
{%- endif %}

packages of the machine:
  pkg.installed:
    - pkgs: {{ linux.package | dictsort | rejectattr(1, "none") | map("first") | list | json }}
