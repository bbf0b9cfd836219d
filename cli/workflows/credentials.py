"""Files for the operator's own clients, as the model declares them under `kubernetes:control:credentials`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cli.workflows.overlay import control_of
from cli.workflows.places import placed
from reclass_model.errors import OperatorError

if TYPE_CHECKING:
    from reclass_model.inventory import Inventory
    from reclass_model.secrets import Keyring

DIRECTORY = "directory"  #: the variable for where the files lie: some name each other


@placed
def write_credentials(inventory: Inventory, keyring: Keyring, directory: Path) -> list[Path]:
    """Write them for nobody else to read; their paths. OperatorError E047 where git would carry them away."""
    from reclass_model.configuration import render
    from reclass_model.inventory import get
    from reclass_model.repository import write_atomically
    from reclass_model.variables import fill

    directory = directory.expanduser().resolve()
    root = inventory.repository.root
    if directory.is_relative_to(root):
        raise OperatorError(
            f"{directory} is in the repository: its next commit would have the passwords in the clear",
            code="E047",
            hint="name another with --output",
        )
    declared = control_of(inventory).get("credentials") or {}
    known = {DIRECTORY: str(directory)}
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = []
    for name, file in sorted(declared.items()):
        if file is None:
            continue
        if "authority" in file:
            authority = f"pki:authority:{file['authority']}:certificate"
            text = get(inventory.config_node().parameters, authority)
        else:
            text = render(file["format"], fill(file["data"], known, keyring.reveal))
        write_atomically(directory / name, text, 0o600)
        written.append(directory / name)
    return written
