"""The lab's own deployment repo, derived from the given one: the same cloud with nothing of production's secrets.

The commit at HEAD, plus: `system.lab` as the last class of every machine (what containers need; it wins), new
identities, new passwords, new CAs and keys. When the given repo moves on, its commits are merged; the secrets,
keys and checksums made here stay, so that a running lab goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

from kubernetes_formula.lab.place import Place
from reclass_model.errors import OperatorError
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
    fresh = not (place.model / ".git").exists()
    if fresh:
        place.model.mkdir(parents=True, exist_ok=True)
    derived = Repository(place.model)
    if fresh:
        derived.git("init", "--quiet", "--initial-branch=main")
        derived.git("config", "ostack-k8s.identity", str(place.identity))
        derived.git("config", "user.name", "ostack-k8s lab")
        derived.git("config", "user.email", "lab@localhost")
    if derived.reference(SOURCE) == commit:
        return derived
    derived.git("fetch", "--quiet", str(source.root), commit)
    if fresh:
        derived.git("reset", "--quiet", "--hard", commit)
    else:
        _merge(derived, commit)
    derived = Repository(place.model)  # settings are cached, and may be others now
    _own(derived, place, fresh, progress)
    derived.git("add", "--all")
    derived.git(
        "commit", "--quiet", "--message", f"Lab of {commit[:12]}"
    )  # concludes a merge, if there is one
    derived.set_reference(SOURCE, commit)
    return Repository(place.model)


def with_class(text: str, name: str) -> str:
    """A node file's text with `name` as its last class."""
    from ruamel.yaml import YAML

    yaml = YAML()
    content = yaml.load(text)
    classes = content.setdefault("classes", [])
    if name in classes:
        classes.remove(name)
    classes.append(name)
    changed = StringIO()
    yaml.dump(content, changed)
    return changed.getvalue()


def _merge(derived: Repository, commit: str) -> None:
    """Merge the given repo's commit; what the lab made for itself stays as it is."""
    own = [
        derived.relative(path)
        for path in (derived.secrets_file, derived.pki_dir, derived.root / SETTINGS_FILE)
    ]
    try:
        derived.git("merge", "--quiet", "--no-edit", "--no-commit", "--no-ff", "-X", "ours", commit)
    except OperatorError as error:
        derived.git("merge", "--abort")
        raise OperatorError(
            f"the lab's repo cannot take over {commit[:12]}: {error}",
            code="E814",
            file=str(derived.root),
            hint="merge it there by hand, or start anew: lab down, lab up",
        ) from error
    derived.git("checkout", "--quiet", "HEAD", "--", *own)


def _own(derived: Repository, place: Place, fresh: bool, progress: Callable[[str], None]) -> None:
    from reclass_model import generate, pki

    for name in derived.node_names():
        path = derived.node_file(name)
        write_atomically(path, with_class(path.read_text(), LAB_CLASS))
    if fresh:
        progress("new identities, passwords and keys for the lab")
        generate.regenerate_secrets(derived, place.identity)
        for file in derived.pki_dir.glob("*.yml"):
            file.unlink()
    pki.issue(Repository(derived.root), Keyring(place.identity / "operator.age"), progress=progress)


def identity_of(place: Place, machine: str) -> Path:
    """The machine's identity, made with the derived repo."""
    return place.identity / "machines" / f"{machine}.age"
