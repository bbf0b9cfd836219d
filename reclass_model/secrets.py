"""Secrets of the model: age ciphertext as tokens in the YAML text, opaque to the engine, opened last.

A token is `?{age:<fingerprint>:<base64>}`. Whatever string holds one is secret, so masking and comparing need no key;
the fingerprint (a keyed digest of the plaintext) tells whether a secret changed and survives `rekey`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from reclass_model.errors import OperatorError, Problem
from reclass_model.repository import Repository, write_atomically

TOKEN = re.compile(r"\?\{age:([0-9a-f]{12}):([A-Za-z0-9+/=]+)\}")
MASK = "***"
MACHINE_IDENTITY = Path("/etc/ostack-k8s/identity")
DIGEST_KEY = "secret_digest_key"  #: the `_param` in secrets.yml that holds the key of the fingerprints


# --- tokens in values ---


def is_secret(text: object) -> bool:
    """Whether a value is a string that holds a token."""
    return isinstance(text, str) and "?{age:" in text and TOKEN.search(text) is not None


def _replace(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value) if "?{age:" in value else value
    if isinstance(value, Mapping):
        return {key: _replace(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace(item, change) for item in value]
    return value


def mask(value: Any) -> Any:
    """The value with `***` for every string that holds a token."""
    return _replace(value, lambda text: MASK if is_secret(text) else text)


def stable(value: Any) -> Any:
    """The value with each token cut to its fingerprint: what digests are made of."""
    return _replace(value, lambda text: TOKEN.sub(r"?{\1}", text))


def seal(plaintext: str, recipients: Sequence[str], digest_key: bytes) -> str:
    """A token that these age public keys can open. Raises OperatorError E405 for a key that is none."""
    import pyrage  # type: ignore[import-untyped]

    try:
        keys = [pyrage.x25519.Recipient.from_str(recipient) for recipient in recipients]
    except pyrage.RecipientError:
        bad = next(recipient for recipient in recipients if not _is_recipient(recipient))
        raise OperatorError(f"{bad!r} is no age public key", code="E405", hint="one starts with age1") from None
    if not keys:
        raise OperatorError("nobody could open this secret: no recipients", code="E405", hint="see .ostack-k8s.yml")
    fingerprint = hmac.new(digest_key, plaintext.encode(), hashlib.sha256).hexdigest()[:12]
    return f"?{{age:{fingerprint}:{base64.b64encode(pyrage.encrypt(plaintext.encode(), keys)).decode()}}}"


def _is_recipient(text: str) -> bool:
    import pyrage

    try:
        pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        return False
    return True


def new_digest_key() -> str:
    """A fresh plaintext for `_param:secret_digest_key` (32 random bytes, hex)."""
    return os.urandom(32).hex()


# --- identities ---


def new_identity(path: Path) -> str:
    """Write an age identity (0600) unless there is one; its public key."""
    import pyrage

    if path.exists():
        return str(_read_identity(path).to_public())
    identity = pyrage.x25519.Identity.generate()
    write_atomically(path, f"# public key: {identity.to_public()}\n{identity}\n", mode=0o600)
    return str(identity.to_public())


def _read_identity(path: Path) -> Any:
    import pyrage

    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise OperatorError(f"cannot read the age identity {path}: {error.strerror}", code="E401") from None
    try:
        return pyrage.x25519.Identity.from_str(next(line for line in lines if line.startswith("AGE-SECRET-KEY-")))
    except (StopIteration, pyrage.IdentityError):
        raise OperatorError(
            f"{path} is no age identity", code="E401", hint="it holds a line that starts with AGE-SECRET-KEY-1"
        ) from None


def identity_places(cluster_name: str) -> list[Path]:
    """Where an identity is looked for, first found wins."""
    environment = os.environ
    home = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = [Path(environment["OSTACK_K8S_IDENTITY"])] if environment.get("OSTACK_K8S_IDENTITY") else []
    if environment.get("OSTACK_K8S_IDENTITY_DIR"):
        places.append(Path(environment["OSTACK_K8S_IDENTITY_DIR"]) / "operator.age")
    return [*places, home / "ostack-k8s" / cluster_name / "operator.age", MACHINE_IDENTITY]


class Keyring:
    """One age identity, and what it can open."""

    def __init__(self, path: Path) -> None:
        """Raises OperatorError E401 when `path` holds no identity."""
        self.path = path
        self._identity = _read_identity(path)
        self._open = cache(self._decrypt)

    @classmethod
    def find(cls, repository: Repository) -> Keyring:
        """The identity of this operator or machine. Raises OperatorError E401 naming every place looked at."""
        places = identity_places(repository.settings.cluster_name)
        for path in places:
            if path.is_file():
                return cls(path)
        raise OperatorError(
            f"no age identity for cluster {repository.settings.cluster_name!r}",
            code="E401",
            hint=f"looked at {', '.join(map(str, places))}; set OSTACK_K8S_IDENTITY to the file that `init` wrote",
        )

    @property
    def public(self) -> str:
        return str(self._identity.to_public())

    def reveal(self, value: Any) -> Any:
        """The value with every token opened.

        Raises OperatorError E402 where this identity is not among a secret's recipients, E403 for a broken token.
        """
        return _replace(value, self._reveal_text)

    def _reveal_text(self, text: str) -> str:
        shown = TOKEN.sub(lambda found: self._open(found[2]), text)
        if "?{age:" in shown:
            raise OperatorError("a secret is not a whole token: " + MASK, code="E403", hint="set it anew")
        return shown

    def _decrypt(self, ciphertext: str) -> str:
        import pyrage

        try:
            return str(pyrage.decrypt(base64.b64decode(ciphertext, validate=True), [self._identity]).decode())
        except pyrage.DecryptError as error:
            if "No matching keys" in str(error):
                raise OperatorError(
                    f"{self.path} cannot open this secret: it is not among its recipients",
                    code="E402",
                    hint="an operator who can runs `ostack-k8s secrets rekey` after adding this key to .ostack-k8s.yml",
                ) from None
            raise _corrupt(str(error)) from None
        except ValueError as error:
            raise _corrupt(str(error)) from None


def _corrupt(why: str) -> OperatorError:
    return OperatorError(
        f"a secret is corrupt: {why}", code="E403", hint="restore it from git, or `ostack-k8s secrets set` it anew"
    )


# --- secrets in files ---


def check(repository: Repository, keyring: Keyring | None) -> list[Problem]:
    """Every token of the repo that is broken, or that `keyring` cannot open, with file and line."""
    problems = []
    for path, line, text in _token_lines(repository):
        try:
            if "?{age:" in TOKEN.sub("", text):
                raise _corrupt("not a whole token")
            if keyring is not None:
                keyring.reveal(text)
        except OperatorError as error:
            found = error.problems[0]
            where = repository.relative(path)
            problems.append(Problem(found.code, found.message, file=where, line=line, hint=found.hint))
    return problems


def _token_lines(repository: Repository) -> Iterator[tuple[Path, int, str]]:
    for top in (repository.classes_dir, repository.nodes_dir):
        for path in sorted(top.rglob("*.yml")):
            text = path.read_text()
            if "?{age:" in text:
                for number, line in enumerate(text.splitlines(), 1):
                    if "?{age:" in line:
                        yield path, number, line
