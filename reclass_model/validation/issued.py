"""Is everything issued that a machine declares under `pki:`? After an update of the library some may not be yet."""

from __future__ import annotations

from collections.abc import Iterator

from reclass_model.errors import Problem
from reclass_model.inventory import Node, get
from reclass_model.provenance import locate
from reclass_model.repository import Repository
from reclass_model.sources import Sources

#: Section of `pki` → what `pki issue` writes into each of its entries.
WRITTEN = {
    "authority": "certificate",
    "certificate": "certificate",
    "keypair": "public_key",
    "authority_key": "private_key",
    "secret": "value",
}


def unissued(node: Node, repository: Repository, sources: Sources) -> Iterator[Problem]:
    """What a machine declares and has not."""
    for section, field in WRITTEN.items():
        for name, declared in (get(node.parameters, f"pki:{section}", None) or {}).items():
            if declared is not None and not declared.get(field):
                path = f"pki:{section}:{name}"
                place = locate(repository, node.name, path, sources=sources)
                file, line = (place.file, place.line) if place else (f"nodes/{node.name}.yml", None)
                what = f"the {section.replace('_', ' ')} {name} is declared, and not issued"
                yield Problem("E212", what, node.name, path, file, line, "`ostack-k8s pki issue`, commit")
