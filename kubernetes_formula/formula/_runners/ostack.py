"""`salt-run ostack.deploy`: the command line's deploy, from the Salt master's checkout of the model."""

from __future__ import annotations

import subprocess

MODEL = "/srv/ostack-k8s/model"


def deploy(revision: str = "HEAD") -> bool:
    """Run `ostack-k8s deploy REVISION --yes` in the master's checkout, seen on the terminal; True when it succeeded."""
    return (
        subprocess.run(["ostack-k8s", "deploy", "-C", MODEL, revision, "--yes"], check=False).returncode == 0
    )
