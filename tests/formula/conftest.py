"""Salt without root and without a machine: the formula and a generated model in temporary directories."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubernetes_formula.salt_loader import FORMULA
from reclass_model import generate
from reclass_model.repository import Repository

ANSWERS = {
    "article": {"cluster_name": "seven", "services": "identity"},
    "ha": {"cluster_name": "ha", "services": "identity", "masters": 3},
    "aio": {"cluster_name": "one", "services": "identity", "all_in_one": True},
    "lab": {"cluster_name": "lab", "services": "identity", "all_in_one": True},
}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Repository]:
    """The model of a topology, made once; its identities lie beside it in `identity`."""
    made: dict[str, Repository] = {}

    def model(topology: str) -> Repository:
        if topology not in made:
            root = tmp_path_factory.mktemp(topology)
            answers = generate.Answers.of(ANSWERS[topology])
            generate.create(answers, root / "model", root / "identity", lambda line: None)
            made[topology] = Repository(root / "model")
            if topology == "lab":
                _join_lab(made[topology])
        return made[topology]

    return model


def _join_lab(model: Repository) -> None:
    for file in model.nodes_dir.glob("*.yml"):
        file.write_text(file.read_text().replace("\nparameters:", "\n- system.lab\nparameters:"))


@pytest.fixture
def caller(tmp_path: Path) -> Callable[..., Any]:
    """`salt-call --local` for a machine of a model, in this process: caller(model, node, grains={})."""
    import salt.client
    import salt.config

    def make(model: Repository, node: str, grains: dict[str, str] | None = None) -> Any:
        (tmp_path / "minion").write_text(json.dumps({"grains": grains or {}}))  # only from a file do they win
        options = salt.config.minion_config(None, minion_id=node)
        options.update(
            root_dir=str(tmp_path),
            conf_file=str(tmp_path / "minion"),
            log_file=str(tmp_path / "log"),
            file_client="local",
            file_roots={"base": [str(FORMULA)]},
            ext_pillar=[{"ostack_k8s": {"repository": str(model.root)}}],
            minion_data_cache=False,
            **{key: str(tmp_path / key) for key in ("cachedir", "pki_dir", "sock_dir", "extension_modules")},
        )
        return salt.client.Caller(mopts=options)

    return make
