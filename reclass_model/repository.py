"""The deployment repo on disk: its paths, its settings and its git.

This is the one object that knows where things lie; everything else asks it.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

from reclass_model.errors import OperatorError

SETTINGS_FILE = ".ostack-k8s.yml"


@dataclass(frozen=True)
class Recipients:
    """Who can decrypt: name → age public key."""

    operators: dict[str, str] = field(default_factory=dict)
    machines: dict[str, str] = field(default_factory=dict)  #: fqdn → age public key


@dataclass(frozen=True)
class Settings:
    """`.ostack-k8s.yml`: the answers given to `init`, who may read the secrets, options of the command line."""

    cluster_name: str
    library_version: str
    answers: dict[str, Any]
    recipients: Recipients
    options: dict[str, Any]


class Repository:
    """A deployment repo, in git or exported from it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @classmethod
    def find(cls, start: Path) -> Repository:
        """The repo that `start` is in. Raises OperatorError E001 when there is none."""
        here = start.resolve()
        for directory in (here, *here.parents):
            if (directory / SETTINGS_FILE).is_file():
                return cls(directory)
        raise OperatorError(
            f"{start} is not in a deployment repo: no {SETTINGS_FILE} here or above",
            code="E001",
            hint="go into one, name it with -C DIR, or make one with `ostack-k8s init NAME`",
        )

    # --- paths ---

    @property
    def nodes_dir(self) -> Path:
        return self.root / "nodes"

    @property
    def classes_dir(self) -> Path:
        return self.root / "classes"

    @property
    def cluster_dir(self) -> Path:
        return self.classes_dir / "cluster" / self.settings.cluster_name

    @property
    def secrets_file(self) -> Path:
        return self.cluster_dir / "secrets.yml"

    @property
    def lock_file(self) -> Path:
        return self.cluster_dir / "images.lock.yml"

    @property
    def pki_dir(self) -> Path:
        return self.cluster_dir / "pki"

    def node_names(self) -> list[str]:
        """Every machine of the model, sorted."""
        return sorted(path.stem for path in self.nodes_dir.glob("*.yml") if path.suffix and path.is_file())

    def node_file(self, name: str) -> Path:
        return self.nodes_dir / f"{name}.yml"

    def relative(self, path: Path) -> str:
        """`path` as people name it: relative to the repo where it is in the repo."""
        absolute = path if path.is_absolute() else self.root / path
        return str(absolute.relative_to(self.root)) if absolute.is_relative_to(self.root) else str(path)

    @cached_property
    def settings(self) -> Settings:
        """Raises OperatorError E002 when the settings file is missing or broken."""
        import yaml

        hint = f"it is written by `ostack-k8s init`; `git log -p {SETTINGS_FILE}` shows what it was"

        def broken(what: str, line: int | None = None) -> OperatorError:
            return OperatorError(what, code="E002", file=SETTINGS_FILE, line=line, hint=hint)

        def mapping(of: Mapping[str, Any], key: str) -> dict[str, Any]:
            value = of.get(key) or {}
            if not isinstance(value, dict):
                line = next(
                    (n for n, text in enumerate(lines, 1) if text.lstrip().startswith(f"{key}:")), None
                )
                raise broken(f"`{key}` is a mapping, not {value!r}", line)
            return value

        try:
            text = (self.root / SETTINGS_FILE).read_text()
            raw = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # a line a machine
        except (OSError, UnicodeError, yaml.YAMLError) as error:
            raise OperatorError.unreadable(error, SETTINGS_FILE, "E002", hint) from None
        lines = text.splitlines()
        if not isinstance(raw, dict) or not isinstance(raw.get("cluster_name"), str):
            raise broken("`cluster_name` is missing")
        recipients = mapping(raw, "recipients")
        return Settings(
            cluster_name=raw["cluster_name"],
            library_version=str(raw.get("library_version", "")),
            answers=mapping(raw, "answers"),
            recipients=Recipients(
                operators=mapping(recipients, "operators"),
                machines=mapping(recipients, "machines"),
            ),
            options=mapping(raw, "options"),
        )

    # --- git ---

    def git(self, *arguments: str, environment: Mapping[str, str] | None = None) -> bytes:
        """Run git here. Raises OperatorError E005 with git's own words."""
        try:
            done = subprocess.run(
                ["git", "-C", str(self.root), *arguments],
                capture_output=True,
                env={**os.environ, "LC_ALL": "C", **(environment or {})},  # its words are read below
                check=False,
            )
        except FileNotFoundError:
            raise OperatorError("git is not installed", code="E005", hint="apt-get install git") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
            if "not a git repository" in said:
                hint = "`git init`, `git add .` and `git commit` make one of it"
                raise OperatorError(f"{self.root} is not a git repository", code="E005", hint=hint)
            raise OperatorError(f"git {' '.join(arguments)}: {said}", code="E005")
        return done.stdout

    def _ask(self, *arguments: str) -> str:
        return self.git(*arguments).decode().strip()

    def is_git(self) -> bool:
        try:
            return self._ask("rev-parse", "--is-inside-work-tree") == "true"
        except OperatorError:
            return False

    def git_setting(self, name: str) -> str | None:
        """A value of `git config`, for what belongs to one checkout and not into the tree."""
        try:
            return self._ask("config", "--get", name)
        except OperatorError:
            return None

    def head(self) -> str:
        """The full sha of the checked out commit."""
        return self.resolve("HEAD")

    def resolve(self, revision: str) -> str:
        """The full sha of a revision. Raises OperatorError E006 when there is no such commit."""
        try:
            return self._ask(
                "rev-parse",
                "--verify",
                "--quiet",
                "--end-of-options",
                f"{revision}^{{commit}}",
            )
        except OperatorError:
            raise OperatorError(
                f"no commit {revision!r} in {self.root}",
                code="E006",
                hint="`git log --oneline` lists what there is",
            ) from None

    def knows(self, revision: str) -> bool:
        """Whether there is such a commit here."""
        try:
            return bool(self.resolve(revision))
        except OperatorError:
            return False

    def describe(self, revision: str) -> str:
        """The short sha of a revision."""
        return self._ask("rev-parse", "--short", self.resolve(revision))

    def contains(self, revision: str, older: str) -> bool:
        """Whether `older` is in the history of `revision`."""
        try:
            self.git("merge-base", "--is-ancestor", older, revision)
        except OperatorError:
            return False
        return True

    def is_dirty(self) -> bool:
        """Whether anything in the tree is not committed."""
        return bool(self._ask("status", "--porcelain", "--", "."))

    @contextmanager
    def at(self, revision: str) -> Iterator[Repository]:
        """The tree of a revision, exported to a temporary directory (removed afterwards)."""
        archive = self.git("archive", "--format=tar", self.resolve(revision))
        with tempfile.TemporaryDirectory(prefix="ostack-k8s-") as directory:
            with tarfile.open(fileobj=BytesIO(archive)) as tar:
                # Debian 12's Python 3.11.2 has no filters; what git writes needs none.
                tar.extraction_filter = getattr(tarfile, "data_filter", None)
                tar.extractall(directory)
            yield Repository(Path(directory))

    def commit(self, message: str, paths: Sequence[Path]) -> str:
        """Commit these paths only; the sha of HEAD afterwards. Nothing changed: nothing is committed."""
        names = [str(path) for path in paths]
        self.git("add", "--all", "--", *names)
        if self._ask("status", "--porcelain", "--", *names):
            self.git(
                "commit",
                "--quiet",
                "-m",
                message,
                "--",
                *names,
                environment=self.author(),
            )
        return self.head()

    def author(self) -> dict[str, str]:
        """What git's environment needs for a commit: a neutral author where git knows none."""
        try:
            self.git("var", "GIT_COMMITTER_IDENT")
        except OperatorError:
            name, mail = "ostack-k8s", "ostack-k8s@localhost"
            return {
                "GIT_AUTHOR_NAME": name,
                "GIT_AUTHOR_EMAIL": mail,
                "GIT_COMMITTER_NAME": name,
                "GIT_COMMITTER_EMAIL": mail,
            }
        return {}

    def reference(self, name: str) -> str | None:
        """The sha that `refs/ostack-k8s/<name>` points to, e.g. "deployed"."""
        try:
            return self._ask("rev-parse", "--verify", "--quiet", f"refs/ostack-k8s/{name}")
        except OperatorError:
            return None

    def set_reference(self, name: str, revision: str) -> None:
        """Point `refs/ostack-k8s/<name>` to a commit. Raises OperatorError E006 when there is no such."""
        self.git("update-ref", f"refs/ostack-k8s/{name}", self.resolve(revision))


def write_atomically(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace a file in one step: whoever reads it, also after a power failure, sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
