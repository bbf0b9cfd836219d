"""The lab: the machines of a deployment repo as systemd containers, deployed as production is."""
