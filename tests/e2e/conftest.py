"""A real cloud for the end-to-end tests: one all-in-one machine of the lab, shared by the session.

OSTACK_K8S_BUNDLE names a filled bundle (otherwise it is built from source into the cache); with
OSTACK_K8S_KEEP_LAB set the machine stays for the next run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubernetes_formula import lab
from reclass_model.generate import Answers, create
from reclass_model.repository import Repository

#: Not the default network, so that a developer's own lab can run beside the tests.
ANSWERS = {"cluster_name": "e2e", "all_in_one": True, "underlay_network": "10.78.0.0/24"}


def say(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True)
class Cloud:
    """What a test needs of the lab."""

    source: Repository  #: the operator's repo, which the lab is derived from
    state: lab.LabState
    bundle: Path | None

    @property
    def model(self) -> Repository:
        return Repository(self.state.model)

    @property
    def node(self) -> str:
        return self.state.nodes[0].name


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The lab's machine with its states applied (and rehearsed), no overlay."""
    keep = "OSTACK_K8S_KEEP_LAB" in os.environ
    folder = Path("/tmp/ostack-k8s-e2e") if keep else tmp_path_factory.mktemp("e2e")
    source = Repository(folder / "model")
    if not source.root.exists():
        create(Answers.of(ANSWERS), source.root, folder / "identity", say)
    bundle = Path(os.environ["OSTACK_K8S_BUNDLE"]) if "OSTACK_K8S_BUNDLE" in os.environ else None
    try:
        yield Cloud(source, lab.up(source, bundle=bundle, rehearse=True, progress=say), bundle)
    finally:
        if not keep:
            lab.down(source)
