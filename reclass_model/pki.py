"""Certificates and keys of the model: what the pillars declare under `pki:` is issued into the repo.

`issue` reads what each machine declares (schema/pki.json), makes what is missing, runs out or no longer matches, and
writes three kinds of files under `classes/cluster/<name>/pki/`: `authorities.yml` (CA certificates, public; while a CA
is replaced both, and the first one signs), `authority-keys.yml` (CA keys and masters of what is shared; operators only,
no class includes it) and `<fqdn>.yml` (a machine's own, for that machine). The certificates themselves are public, so
`status` needs no key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from reclass_model.certificates import end_of
from reclass_model.errors import OperatorError, Problem
from reclass_model.inventory import Inventory
from reclass_model.issuer import AUTHORITIES, RENEW_BEFORE, Issuer, Step, names_of, present
from reclass_model.repository import Repository, write_atomically
from reclass_model.secrets import Keyring

REPLACE_BEFORE = timedelta(days=365)  #: an authority with less than this left is to be replaced


@dataclass(frozen=True)
class Certificate:
    """One certificate of the model."""

    node: str | None  #: None: an authority
    name: str
    authority: str
    common_name: str
    not_after: datetime | None  #: None: declared, not issued
    names: tuple[str, ...] = ()


def issue(
    repository: Repository,
    keyring: Keyring,
    progress: Callable[[str], None] = lambda line: None,
    *,
    renew: Callable[[str, str], bool] = lambda node, name: False,
    now: datetime | None = None,
) -> list[Path]:
    """Issue what is declared and not there; the files that changed.

    `renew(node, name)` says which certificates are issued anew although they are good. Nothing is written unless all
    of it could be made. Raises OperatorError E410 for a declaration that makes no sense, E4xx from the keyring.
    """
    _add_missing_files(repository)
    return Issuer(repository, keyring, progress, renew, now or datetime.now(UTC)).issue()


def _add_missing_files(repository: Repository) -> None:
    for name in (AUTHORITIES, *(f"{name}.yml" for name in repository.node_names())):
        if not (path := repository.pki_dir / name).exists():
            write_atomically(path, "parameters: {}\n")  # the model includes these files as classes


def rotate(
    repository: Repository,
    keyring: Keyring,
    names: Iterable[str] = (),
    progress: Callable[[str], None] = lambda line: None,
    *,
    now: datetime | None = None,
) -> list[Path]:
    """Issue certificates anew with new keys: all, or those named by "machine", "certificate" or "machine/certificate".

    Raises OperatorError E411 for a name that nothing has.
    """
    wanted = set(names)
    known = {(item.node, item.name) for item in status(repository) if item.node is not None}
    spellings = {text for node, name in known for text in (node, name, f"{node}/{name}")}
    if unknown := sorted(wanted - spellings):
        raise OperatorError(
            f"no certificate or machine {unknown[0]!r}",
            code="E411",
            hint="`ostack-k8s pki status` lists them",
        )
    return issue(
        repository,
        keyring,
        progress,
        now=now,
        renew=lambda node, name: not wanted or not wanted.isdisjoint((node, name, f"{node}/{name}")),
    )


def rotate_authority(
    repository: Repository,
    keyring: Keyring,
    name: str,
    progress: Callable[[str], None] = lambda line: None,
    *,
    now: datetime | None = None,
) -> tuple[Step, list[Path]]:
    """Take the next of the three steps (STEPS) that replace an authority while what it signed goes on working.

    Each has to be on all machines before the next is taken, and is committed for that: E007 for a dirty tree. Raises
    OperatorError E410 for an authority that there is not.
    """
    if repository.is_git() and repository.is_dirty():
        raise OperatorError(
            "there are uncommitted changes",
            code="E007",
            hint="commit them, bring all machines to them, then take the next step",
        )
    issuer = Issuer(repository, keyring, progress, lambda node, name: False, now or datetime.now(UTC))
    step = issuer.advance(name)
    return step, issuer.issue()


def status(repository: Repository) -> list[Certificate]:
    """Every certificate of the model with its end, authorities first; declared ones that are not issued too."""
    found = []
    seen: set[str] = set()
    for node in Inventory(repository).nodes():
        pki = node.parameters.get("pki") or {}
        for name, declared in present(pki.get("authority")):
            if name not in seen:
                seen.add(name)
                found.append(_certificate(None, name, name, declared))
        for name, declared in present(pki.get("certificate")):
            found.append(_certificate(node.name, name, str(declared.get("authority")), declared))
    return sorted(found, key=lambda item: (item.node or "", item.name))


def ending(node: str | None, name: str, end: datetime | None, now: datetime) -> Iterator[Problem]:
    """A problem for a certificate (None: an authority's) that has ended (E413) or will within 30 days (W130).

    Of an authority it is told a year before: what it signs from then on would outlive it.
    """
    if end is None or end - now >= (RENEW_BEFORE if node else REPLACE_BEFORE):
        return
    what = f"the certificate {name}" if node else f"the authority {name}"
    day = f"{end:%Y-%m-%d}"
    hint = (
        "`ostack-k8s pki issue`, commit, `salt-run state.orch ostack.underlay`, `ostack-k8s deploy`"
        if node
        else f"`ostack-k8s pki rotate --authority {name}`, three times, each brought to all machines before the next"
    )
    if end <= now:
        yield Problem("E413", f"{what} has ended on {day}", node=node, hint=hint)
    else:
        yield Problem("W130", f"{what} ends in {(end - now).days} days, on {day}", node=node, hint=hint)


def _certificate(node: str | None, name: str, authority: str, declared: Mapping[str, Any]) -> Certificate:
    end = end_of(declared.get("certificate") or "")
    return Certificate(
        node, name, authority, str(declared.get("common_name", name)), end, tuple(names_of(declared))
    )
