#!/bin/sh
# Ends what a machine's kubelet, kube-proxy, Calico and CNI started, which outlives them. BIRD is asked to end, so that its peers drop
# this machine's routes at once.
systemctl stop kubelet kube-proxy calico-felix calico-confd 2> /dev/null
systemctl kill --signal=TERM calico-bird 2> /dev/null && sleep 1
systemctl stop calico-bird 2> /dev/null
if systemctl is-active --quiet containerd; then
  ctr -n k8s.io tasks list -q | xargs -r -n 1 ctr -n k8s.io tasks kill -s KILL
  sleep 1
  ctr -n k8s.io tasks list -q | xargs -r -n 1 ctr -n k8s.io tasks delete --force
  ctr -n k8s.io containers list -q | xargs -r -n 1 ctr -n k8s.io containers delete
fi
systemctl stop containerd 2> /dev/null
awk '$2 ~ "^/(var/lib/kubelet|run/containerd|run/netns/cni-)" {print $2}' /proc/mounts | sort -r | xargs -r umount -l
test ! -x /usr/local/bin/kube-proxy || kube-proxy --cleanup 2> /dev/null
for tables in iptables ip6tables; do
  command -v $tables-save > /dev/null && $tables-save | grep -vE 'KUBE-|cali[-:]|CNI-' | $tables-restore
done
ip -o link | grep -oE '(cali[0-9a-f]+|cni0|veth[0-9a-f]+@[^:]*)' | cut -d@ -f1 | xargs -r -n 1 ip link delete
ip route flush proto bird 2> /dev/null
ls -d /run/netns/cni-* 2> /dev/null | xargs -r rm -f
exit 0
