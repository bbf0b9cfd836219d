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
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from reclass_model import document
from reclass_model.errors import OperatorError, Problem
from reclass_model.repository import SETTINGS_FILE, Repository, write_atomically
from reclass_model.sources import Sources

TOKEN = re.compile(r"\?\{age:([0-9a-f]{12}):([A-Za-z0-9+/=]+)\}")
MASK = "***"
MACHINE_IDENTITY = Path("/etc/ostack-k8s/identity")
AUTHORITY_KEYS = "authority-keys.yml"  #: in the pki directory, for operators' eyes only
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
        raise OperatorError(
            f"{bad!r} is no age public key", code="E405", hint="one starts with age1"
        ) from None
    if not keys:
        raise OperatorError(
            "nobody could open this secret: no recipients",
            code="E405",
            hint="see .ostack-k8s.yml",
        )
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
    except UnicodeError:
        lines = []
    try:
        return pyrage.x25519.Identity.from_str(
            next(line for line in lines if line.startswith("AGE-SECRET-KEY-"))
        )
    except (StopIteration, pyrage.IdentityError):
        raise OperatorError(
            f"{path} is no age identity",
            code="E401",
            hint="it holds a line that starts with AGE-SECRET-KEY-1",
        ) from None


def identity_places(cluster_name: str, checkout: str | None = None) -> list[Path]:
    """Where an identity is looked for, first found wins.

    The variables OSTACK_K8S_IDENTITY (a file) and OSTACK_K8S_IDENTITY_DIR, the checkout's own directory
    (`git config ostack-k8s.identity`; both hold operator.age), the operator's own directory, and the place on machines.
    """
    environment = os.environ
    configuration = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    directories = [
        environment.get("OSTACK_K8S_IDENTITY_DIR"),
        checkout,
        configuration / "ostack-k8s" / cluster_name,
    ]
    file = environment.get("OSTACK_K8S_IDENTITY")
    return [
        *([Path(file)] if file else []),
        *(Path(directory) / "operator.age" for directory in directories if directory),
        MACHINE_IDENTITY,
    ]


class Keyring:
    """One age identity, and what it can open."""

    def __init__(self, path: Path, repository: Repository | None = None) -> None:
        """Raises OperatorError E401 when `path` holds no identity. `repository`: where errors look for the line."""
        self.path = path
        self._repository = repository
        self._identity = _read_identity(path)
        self._open = cache(self._decrypt)

    @classmethod
    def find(cls, repository: Repository) -> Keyring:
        """The identity of this operator or machine. Raises OperatorError E401 naming every place looked at."""
        places = identity_places(
            repository.settings.cluster_name, repository.git_setting("ostack-k8s.identity")
        )
        named = os.environ.get("OSTACK_K8S_IDENTITY")
        for path in places:
            if path.is_file() or str(path) == named:  # who names one means no other
                return cls(path, repository)
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
        try:
            shown = TOKEN.sub(lambda found: self._open(found[2]), text)
            if "?{age:" in shown:
                raise _corrupt("not a whole token")
        except OperatorError as error:
            raise self._placed(error.problems[0], text) from None
        return shown

    def _placed(self, problem: Problem, text: str) -> OperatorError:
        """The error with the line of the model that holds the secret's text."""
        start = text[text.index("?{age:") :][:120]
        for path, line, held in _token_lines(self._repository) if self._repository else ():
            if start in held:
                assert self._repository is not None
                problem = replace(problem, file=self._repository.relative(path), line=line)
        return OperatorError.of(problem)

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
        f"a secret is corrupt: {why}",
        code="E403",
        hint="restore it from git, or `ostack-k8s secrets set` it anew",
    )


# --- secrets in files ---


def recipients(repository: Repository, path: Path, configs: Sequence[str] | None = None) -> list[str]:
    """The age public keys that may open the secrets of a file of the model.

    Authority keys: operators only. A machine's `pki/<fqdn>.yml`: operators, the config machine, that machine.
    Everything else: operators and the config machine. Raises OperatorError E405 for a machine without a key.
    `configs`: the machines with the config role, if who asks about many files knows them; else every node file is read.
    """
    known = repository.settings.recipients
    operators = list(known.operators.values())
    in_pki = path.parent == repository.pki_dir
    if in_pki and path.name == AUTHORITY_KEYS:
        return operators
    machines = dict.fromkeys(Sources(repository).config_machines() if configs is None else configs)
    if in_pki and repository.node_file(path.stem).is_file():
        machines[path.stem] = None
    for machine in machines:
        if machine not in known.machines:
            raise OperatorError(
                f"machine {machine} has no age public key",
                code="E405",
                file=SETTINGS_FILE,
                hint="recipients: machines:",
            )
    return list(dict.fromkeys([*operators, *(known.machines[machine] for machine in machines)]))


def digest_key(repository: Repository, keyring: Keyring) -> bytes:
    """The key of the fingerprints. Raises OperatorError E404 when secrets.yml holds none."""
    return get_secret(repository, keyring, DIGEST_KEY).encode()


def get_secret(repository: Repository, keyring: Keyring, path: str) -> str:
    """The plaintext at "a:b:c" (a bare name is a `_param`) of secrets.yml. Raises OperatorError E404 without it."""
    found = _find(document.load(repository.secrets_file), _keys(path))
    if not isinstance(found, str):
        raise OperatorError(
            f"no secret {path!r}",
            code="E404",
            file=repository.relative(repository.secrets_file),
            hint="restore it from git"
            if path == DIGEST_KEY
            else f"`ostack-k8s secrets set {path}` makes one",
        )
    return str(keyring.reveal(found))


def set_secret(repository: Repository, keyring: Keyring, path: str, plaintext: str) -> None:
    """Seal a value into secrets.yml; comments and order of the file stay."""
    sealed = seal(
        plaintext,
        recipients(repository, repository.secrets_file),
        digest_key(repository, keyring),
    )
    _store(repository, {path: sealed})


def edit(repository: Repository, keyring: Keyring, change: Callable[[str], str]) -> list[str]:
    """Hand all secrets of secrets.yml as plain YAML `path: value` to `change`, seal what comes back different.

    Returns the paths that changed; a line taken out removes the secret. Raises OperatorError E101 for what is no YAML.
    """
    import yaml

    data = document.load(repository.secrets_file)
    tokens = dict(_whole_tokens(data.get("parameters") or {}, ()))
    tokens.pop(f"_param:{DIGEST_KEY}", None)  # not a person's: without it no secret could be set any more
    before = {path: keyring.reveal(text) for path, text in tokens.items()}
    shown = yaml.safe_dump(before, sort_keys=False, width=1 << 16) if before else "# path: value\n"
    if (text := change(shown)) == shown:
        return []
    try:
        after = yaml.load(text, yaml.BaseLoader)  # every value is text: 0123 is a password, not a number
    except yaml.YAMLError as error:  # its own words show the line, and so the secret
        raise OperatorError.unreadable(error, "what was edited") from None
    if not isinstance(after, dict):  # also an emptied file: nobody means to lose every secret
        raise OperatorError("what was edited is no mapping of path: value", code="E101")
    for path, value in after.items():
        if not isinstance(value, str) or not value:
            raise OperatorError(
                f"{path} has no value, or more than one",
                code="E101",
                hint="one line `path: value` a secret; a line taken out removes the secret",
            )
    changed = {path: value for path, value in after.items() if before.get(path) != value}
    gone = [path for path in before if path not in after]
    if changed or gone:
        keys, key = (
            recipients(repository, repository.secrets_file),
            digest_key(repository, keyring),
        )
        sealed = {path: seal(value, keys, key) for path, value in changed.items()}
        _store(repository, {**sealed, **dict.fromkeys(gone)})
    return [*changed, *gone]


def rekey(repository: Repository, keyring: Keyring) -> list[Path]:
    """Seal every secret of the repo again, to the recipients that `.ostack-k8s.yml` names now; the changed files.

    All are opened before the first is written. Fingerprints, and so digests and deployments, stay.
    """
    key = digest_key(repository, keyring)
    configs = Sources(repository).config_machines()
    written: dict[Path, str] = {}
    for path in dict.fromkeys(path for path, _, _ in _token_lines(repository)):
        keys = recipients(repository, path, configs)
        written[path] = TOKEN.sub(
            lambda found, keys=keys: seal(keyring.reveal(found[0]), keys, key),  # type: ignore[misc]
            path.read_text(),
        )
    for path, text in written.items():
        write_atomically(path, text)
    return list(written)


def check(repository: Repository, keyring: Keyring | None) -> list[Problem]:
    """Every token of the repo that is broken, or that `keyring` cannot open, with file and line."""
    problems = []
    for path, line, text in _token_lines(repository):
        try:
            if "?{age:" in TOKEN.sub("", text):
                raise _corrupt("not a whole token")
            if not all(_begins_as_age(found[2]) for found in TOKEN.finditer(text)):
                raise _corrupt("not what age wrote")
            if keyring is not None:
                keyring.reveal(text)
        except OperatorError as error:
            found = error.problems[0]
            where = repository.relative(path)
            problems.append(Problem(found.code, found.message, file=where, line=line, hint=found.hint))
    return problems


def _begins_as_age(ciphertext: str) -> bool:
    """What can be told without a key."""
    try:
        return base64.b64decode(ciphertext, validate=True).startswith(b"age-encryption.org/")
    except ValueError:
        return False


def _token_lines(repository: Repository) -> Iterator[tuple[Path, int, str]]:
    for top in (repository.classes_dir, repository.nodes_dir):
        for path in sorted(path for path in top.rglob("*.yml") if path.is_file()):
            try:  # what cannot be read, or is no text at all, is told by `validate`
                text = path.read_text(errors="replace")
            except OSError:
                continue
            if "?{age:" in text:
                for number, line in enumerate(text.splitlines(), 1):
                    if "?{age:" in line:
                        yield path, number, line


def _whole_tokens(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _whole_tokens(item, (*path, str(key)))
    elif isinstance(value, str) and TOKEN.fullmatch(value):
        yield ":".join(path), value


def _keys(path: str) -> list[str]:
    keys = path.split(":")
    if not all(keys):
        raise OperatorError(
            f"{path!r} is no path of a value", code="E404", hint="the name of a `_param`, or a:b:c"
        )
    return ["parameters", *(keys if len(keys) > 1 else ["_param", path])]


def _find(data: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _store(repository: Repository, values: Mapping[str, str | None]) -> None:
    """Set (or, with None, remove) values in secrets.yml."""
    data = document.load(repository.secrets_file)
    for path, value in values.items():
        *above, last = _keys(path)
        place = data
        for key in above:
            if not isinstance(place.get(key), Mapping):
                place[key] = {}
            place = place[key]
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    document.store(repository.secrets_file, data)
