#!/bin/sh
# Managed by ostack-k8s (Salt). Refuses a push to main that does not validate; the errors (file:line) go to who pushes.
set -eu
while read -r _ new reference; do
    [ "$reference" = refs/heads/main ] || continue
    case $new in *[!0]*) ;; *) echo "main cannot be deleted" >&2; exit 1 ;; esac
    tree=$(mktemp -d)
    trap 'rm -rf "$tree"' EXIT
    git archive "$new" | tar -x -C "$tree"
    env -u GIT_DIR -u GIT_QUARANTINE_PATH -u GIT_OBJECT_DIRECTORY -u GIT_ALTERNATE_OBJECT_DIRECTORIES \
        ostack-k8s -C "$tree" validate >&2
done
