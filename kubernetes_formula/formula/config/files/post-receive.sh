#!/bin/sh
# Managed by ostack-k8s (Salt). Fetches what was pushed into the checkout and runs the pipeline for it in a systemd unit, which
# goes on when the pusher's connection is lost; its output is streamed until it ends.
set -eu
unset GIT_DIR
while read -r _ new reference; do
    [ "$reference" = refs/heads/main ] || continue
    git -C /srv/ostack-k8s/model fetch --quiet /srv/ostack-k8s/model.git "$new"
    unit="ostack-k8s-pipeline@$new.service"
    since=$(date '+%Y-%m-%d %H:%M:%S')
    journalctl --unit "$unit" --since "$since" --follow --output cat --no-tail --quiet &
    stream=$!
    trap 'kill "$stream" 2>/dev/null || true' EXIT
    if systemctl start "$unit"; then
        echo "pipeline done; a person deploys: ostack-k8s -C /srv/ostack-k8s/model deploy"
    else
        echo "pipeline failed; again: systemctl start $unit"
    fi
    sleep 1
done
