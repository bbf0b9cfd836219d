# Takes back the kernel settings; packages and host names stay, other programs may use them.
/etc/sysctl.d/60-ostack-k8s.conf:
  file.absent
