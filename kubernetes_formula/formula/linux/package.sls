{%- from "linux/map.jinja" import linux with context %}
# apt goes no further while an installation is half done, as when the machine lost its power in the middle of one
interrupted installation of packages:
  cmd.run:
    - name: dpkg --force-confdef --force-confold --configure --pending
    - env: [DEBIAN_FRONTEND: noninteractive]
    - onlyif: >-
        test -n "$(ls /var/lib/dpkg/updates)" ||
        grep -qE '^Status: .* (unpacked|half-configured|half-installed|triggers-awaited|triggers-pending)$' /var/lib/dpkg/status

packages of the machine:
  pkg.installed:
    - pkgs: {{ linux.package | dictsort | rejectattr(1, "none") | map("first") | list | json }}
