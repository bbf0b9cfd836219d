"""The lab's own deployment repo, derived from the given one: the same cloud with nothing of production's secrets.

The commit at HEAD, plus: `system.lab` as the last class of every machine (what containers need; it wins), where the
lab's files are, a switch for each rack whose machines peer with none, new identities, new passwords, new CAs and keys.
When the given repo moves on, its commits are merged; the secrets, keys and checksums made here stay, so that a running
lab goes on, and a new machine gets keys of the lab's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from kubernetes_formula.lab import switches
from kubernetes_formula.lab.place import Place
from reclass_model import generate, pki
from reclass_model.document import with_class
from reclass_model.errors import OperatorError
from reclass_model.inventory import Inventory, get
from reclass_model.repository import SETTINGS_FILE, Repository, write_atomically
from reclass_model.secrets import Keyring

LAB_CLASS = "system.lab"
SOURCE = "lab-source"  #: reference: the commit of the given repo that is derived


def derive(source: Repository, place: Place, progress: Callable[[str], None]) -> Repository:
    """The derived repo, up to date with `source`'s HEAD and committed.

    Raises OperatorError E814 when the commits cannot be merged.
    """
    if source.root == place.model.resolve():
        return source
    if source.is_dirty():
        progress(f"{source.root} has changes that are not committed; the lab is made from HEAD")
    commit = source.head()
    if not (place.model / ".git").exists():
        return _found(source, commit, place, progress)
    derived = Repository(place.model)
    if derived.reference(SOURCE) != commit:
        derived.git("fetch", "--quiet", str(source.root), commit)
        _merge(derived, commit)
        _own(Repository(place.model), place, progress)  # anew: settings are cached, and may be others now
        _conclude(derived, commit)
    return Repository(place.model)


def _found(source: Repository, commit: str, place: Place, progress: Callable[[str], None]) -> Repository:
    """The first derivation: whole and committed, or not there at all."""
    place.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".model.", dir=place.root) as directory:
        draft = Repository(Path(directory) / "model")
        draft.root.mkdir()
        draft.git("init", "--quiet", "--initial-branch=main")
        draft.git("config", "ostack-k8s.identity", str(place.identity))
        draft.git("config", "user.name", "ostack-k8s lab")
        draft.git("config", "user.email", "lab@localhost")
        draft.git("fetch", "--quiet", str(source.root), commit)
        draft.git("reset", "--quiet", "--hard", commit)
        progress("new identities, passwords and keys for the lab")
        generate.regenerate_secrets(draft, place.identity)
        for file in draft.pki_dir.glob("*.yml"):
            file.unlink()
        _own(Repository(draft.root), place, progress)
        _conclude(draft, commit)
        os.replace(draft.root, place.model)
    return Repository(place.model)


def _conclude(derived: Repository, commit: str) -> None:
    """Commit what was derived, and with it the merge if there is one."""
    derived.git("add", "--all")
    derived.git("commit", "--quiet", "--message", f"Lab of {commit[:12]}")
    derived.set_reference(SOURCE, commit)


def _merge(derived: Repository, commit: str) -> None:
    """Merge the given repo's commit; what the lab made for itself stays as it is."""
    if (derived.root / ".git" / "MERGE_HEAD").exists():  # an earlier merge was interrupted
        derived.git("reset", "--quiet", "--hard")
    try:
        derived.git("merge", "--quiet", "--no-edit", "--no-commit", "--no-ff", "-X", "ours", commit)
    except OperatorError as error:
        if not _drop_departed(derived, commit):
            derived.git("merge", "--abort")
            raise OperatorError(
                f"the lab's repo cannot take over {commit[:12]}: {error}",
                code="E814",
                file=str(derived.root),
                hint="merge it there by hand, or start anew: lab down, lab up",
            ) from error
    secrets, keys = derived.relative(derived.secrets_file), derived.relative(derived.pki_dir)
    shutil.rmtree(derived.pki_dir)  # also what came with a new machine: keys of the given repo's
    derived.git("checkout", "--quiet", "HEAD", "--", secrets, keys)
    machines = derived.git("ls-tree", "--name-only", f"{commit}:{keys}").decode().splitlines()
    for file in derived.pki_dir.iterdir():
        if file.name not in machines:
            file.unlink()
    derived.git("checkout", "--quiet", commit, "--", SETTINGS_FILE)


def _drop_departed(derived: Repository, commit: str) -> bool:
    """Whether the merge only stopped at files that the given repo has no more: those of machines that left it."""
    unmerged = derived.git("diff", "--name-only", "--diff-filter=U").decode().splitlines()
    if not unmerged or derived.git("ls-tree", "-r", "--name-only", commit, "--", *unmerged):
        return False
    derived.git("rm", "--quiet", "--force", "--", *unmerged)
    return True


def _own(derived: Repository, place: Place, progress: Callable[[str], None]) -> None:
    """What makes it a lab's: its classes on every machine, its own identities, certificates of its own CAs."""
    files = {"parameters": {"_param": {"guest_image": str(place.guest)}}}
    header = "# Where the lab keeps what its checks upload.\n"
    write_atomically(derived.cluster_dir / "lab_files.yml", header + yaml.safe_dump(files))
    _include(derived)
    generate.own_recipients(derived, place.identity)
    keyring = Keyring(place.identity / "operator.age")
    pki.issue(Repository(derived.root), keyring, progress=progress)
    if _add_switches(Repository(derived.root)):
        pki.issue(Repository(derived.root), keyring, progress=progress)  # their passwords


def _include(derived: Repository) -> None:
    """The classes of the lab in every machine: the last word, and first the switches, whose passwords others give."""
    for name in derived.node_names():
        path = derived.node_file(name)
        text = path.read_text()
        if _switches_file(derived).exists():
            text = with_class(text, f"cluster.{derived.settings.cluster_name}.lab", first=True)
        text = with_class(text, f"cluster.{derived.settings.cluster_name}.lab_files")
        write_atomically(path, with_class(text, LAB_CLASS))


def _switches_file(derived: Repository) -> Path:
    return derived.cluster_dir / "lab.yml"


def _add_switches(derived: Repository) -> bool:
    """Switches of the lab's own, as a class that every machine has; whether they are others than before."""
    path = _switches_file(derived)
    before = yaml.safe_load(path.read_text())["parameters"] if path.exists() else {}
    secrets: dict[str, Any] = {}
    peers = switches.missing(Inventory(derived).nodes(), get(before, switches.PEERS, {}))
    for name, peer in peers.items():
        secrets[f"bgp-{name}"] = {"format": "password", "shared": True, "value": None}
        peer["password"] = f"${{pki:secret:bgp-{name}:value}}"
    parameters = {"pki": {"secret": secrets}, "calico": {"bgp": {"peer": peers}}} if peers else {}
    if parameters == before:
        return False
    header = "# The lab's own top-of-rack switches: the model names none for these racks.\n"
    write_atomically(path, header + yaml.safe_dump({"parameters": parameters}, sort_keys=False))
    _include(derived)
    return True


def identity_of(place: Place, machine: str) -> Path:
    """The machine's identity, made with the derived repo."""
    return place.identity / "machines" / f"{machine}.age"
