#!/bin/sh
# Managed by ostack-k8s (Salt); changes here are overwritten.
# BIRD takes the configuration that confd wrote, and pods keep their routes meanwhile. taken.cfg is what it runs with.
RUN=${RUN:-/run/calico}
PATIENCE=${PATIENCE:-30}   # seconds for other sessions to bring what an ending one brought
MESH=${MESH:-15}           # seconds for sessions of the mesh to stand
cd "$RUN" || exit 0

ask() { birdc -s bird.ctl "$@"; }
sessions() { sed -n 's/^protocol bgp \([^ ]*\) .*/\1/p' "$1"; }
reflects() { grep -q 'rr client' "$1" && echo yes; }
networks() { for session in $1; do ask show route protocol "$session"; done | awk '$1 ~ "/" {print $1}'; }

# one that is not there, or just starting, reads it by itself
ask show status > /dev/null 2>&1 || exit 0
[ -s taken.cfg ] || cp bird.cfg taken.cfg

# A session ends when the mesh gives way to reflectors, and its peer drops the routes at once: not before others brought them.
ending=$(sessions taken.cfg | grep -vxF "$(sessions bird.cfg)")
staying=$(sessions taken.cfg | grep -xF "$(sessions bird.cfg)")
while [ -n "$ending" ] && [ "$PATIENCE" -gt 0 ]; do
    networks "$ending" | grep -qvxF "$(networks "$staying")" || break
    PATIENCE=$((PATIENCE - 1))
    sleep 1
done

# Who begins or ends to reflect changes all its sessions. Closed in words, its peers would drop its routes; killed, BIRD comes back
# with the new configuration (systemd), and its peers keep the routes until then: graceful restart.
if [ "$(reflects taken.cfg)" = "$(reflects bird.cfg)" ]; then
    ask configure && cp bird.cfg taken.cfg
else
    reflects bird.cfg > /dev/null || sleep "$MESH"   # those it reflected for are to have sessions of their own
    kill -KILL "$(cat bird.pid)"
fi
exit 0
