"""The states that Salt will run on a machine, asked of Salt itself (`state.show_lowstate`) without that machine.

Salt gets a configuration of its own in a temporary directory: our formula as file root, our ext_pillar over the
given repository, and the machine's name as minion id. Nothing is applied, root is not needed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reclass_model.errors import OperatorError

if TYPE_CHECKING:
    from reclass_model.repository import Repository

_LINES_SAID = 5  # of what salt-call says before it fails: the end tells why, all before is its own stack
REQUISITES = ("require", "watch", "onchanges", "onfail", "prereq", "use", "listen")


@dataclass(frozen=True)
class State:
    """One state in the order in which Salt runs it."""

    id: str
    function: str  # "file.managed"
    requires: tuple[str, ...]  # "module: id" of what it follows


@dataclass(frozen=True)
class Trial:
    """What one state would do to this machine."""

    id: str
    function: str
    changes: bool
    comment: str


def low_states(repository: Repository, node: str) -> list[State]:
    """The machine's states in order; OperatorError E031 without Salt, E032 when Salt cannot compile them."""
    low = salt_call(repository, node, "state.show_lowstate")
    if not isinstance(low, list) or not all(isinstance(chunk, dict) for chunk in low):
        message = "\n".join(map(str, low)) if isinstance(low, list) else str(low)
        raise OperatorError(f"Salt cannot compile the states of {node}: {message}", code="E032")
    return [
        State(
            id=str(chunk["__id__"]),
            function=f"{chunk['state']}.{chunk['fun']}",
            requires=tuple(_requires(chunk)),
        )
        for chunk in sorted(low, key=lambda chunk: int(chunk["order"]))
    ]


def try_states(repository: Repository, node: str) -> list[Trial]:
    """What `state.apply test=True` says on this machine, as if it were `node`; changes nothing. Needs root: E034."""
    if os.geteuid() != 0:
        raise OperatorError(
            "only root can ask a machine what states would change", code="E034", hint="leave out --test"
        )
    returned = salt_call(repository, node, "state.apply", "test=True")
    if not isinstance(returned, dict):
        raise OperatorError(f"Salt cannot compile the states of {node}: {returned}", code="E032")
    in_order = sorted(returned.items(), key=lambda item: int(item[1]["__run_num__"]))
    return [
        Trial(
            id=str(answer["__id__"]),
            function=f"{key.split('_|-')[0]}.{key.split('_|-')[-1]}",
            changes=answer["result"] is None,
            comment=str(answer["comment"]),
        )
        for key, answer in in_order
    ]


def salt_call(repository: Repository, node: str, *arguments: str) -> Any:
    """What `salt-call --local ARGUMENTS` returns for `node`, run without root in a directory of its own."""
    from reclass_model.inventory import Inventory
    from reclass_model.secrets import Keyring

    program = _find_salt_call()
    # What is wrong with the model or its secrets is better told by us than through Salt.
    Keyring.find(repository).reveal(Inventory(repository).node(node).parameters)
    with tempfile.TemporaryDirectory(prefix="ostack-k8s-salt-") as directory:
        _write_configuration(Path(directory), repository, node)
        call = [
            program,
            "--local",
            "--config-dir",
            directory,
            "--out",
            "json",
            "--log-level",
            "error",
            *arguments,
        ]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        try:
            return json.loads(done.stdout)["local"]
        except (ValueError, KeyError) as error:
            said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_LINES_SAID:])
            raise OperatorError(f"salt-call for {node} failed: {said}", code="E032") from error


def _find_salt_call() -> str:
    beside = Path(sys.executable).with_name("salt-call")
    program = str(beside) if beside.exists() else shutil.which("salt-call")
    if program is None or (program == str(beside) and find_spec("salt") is None):
        raise OperatorError(
            "Salt is not installed, and only Salt knows the order of its states.",
            code="E031",
            hint="pip install 'ostack-k8s[salt]' into the environment of ostack-k8s, and run this again",
        )
    return program


def _write_configuration(directory: Path, repository: Repository, node: str) -> None:
    import kubernetes_formula

    formula = Path(kubernetes_formula.__file__).parent / "formula"
    settings = {
        "id": node,
        "root_dir": str(directory),
        "file_client": "local",
        "file_roots": {"base": [str(formula)]},
        "ext_pillar": [{"ostack_k8s": {"repository": str(repository.root)}}],
        "minion_data_cache": False,
        "log_file": str(directory / "salt.log"),
    }
    (directory / "minion").write_text(json.dumps(settings))  # JSON is YAML


def _requires(chunk: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for requisite in REQUISITES:
        for item in chunk.get(requisite, []):
            pairs = item.items() if isinstance(item, dict) else [("id", item)]
            found += [f"{module}: {name}" for module, name in pairs]
    return found
