"""Where a lab keeps what it made: one folder per cluster under the user's cache, thrown away by `lab down`.

Everything in it derives from the deployment repo: the lab's own repo (new secrets, `system.lab` on every machine),
the identities that decrypt it, the kubeconfig, and what `status` and `down` must know without a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reclass_model.cache import cache_directory


@dataclass(frozen=True)
class Place:
    """The paths of one lab."""

    cluster: str

    @property
    def root(self) -> Path:
        return cache_directory() / "lab" / self.cluster

    @property
    def model(self) -> Path:
        """The derived deployment repo; every command against the lab uses it."""
        return self.root / "model"

    @property
    def identity(self) -> Path:
        """The age identities of the lab's operator and machines."""
        return self.root / "identity"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def guest(self) -> Path:
        """The disk of the instances that the checks start, here and on the config machine."""
        return self.root / "guest.img"

    @property
    def docker(self) -> Path:
        """Data, execution root, socket and pid file of a Docker daemon of our own."""
        return cache_directory() / "lab" / "docker"

    @property
    def network(self) -> str:
        return f"ostack-k8s-{self.cluster}"

    @property
    def outside(self) -> str:
        """The network through which the config machine reaches package mirrors.

        Docker takes a container's default route from the network that sorts first: so the name.
        """
        return f"egress-{self.network}"
