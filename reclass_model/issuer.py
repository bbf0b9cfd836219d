"""One run of `pki issue`: what is declared, what is there, and what has to be made of it; files are written at its end.

pki.py decides what is issued anew; secrets.py seals the keys, certificates.py knows X.509.
"""

from __future__ import annotations

import os
import secrets as random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from reclass_model.certificates import (
    Request,
    end_of,
    fits,
    issued_by,
    load_certificate,
    load_key,
    new_key,
    new_keypair,
    renewed,
    split,
    to_pem,
)
from reclass_model.errors import OperatorError
from reclass_model.inventory import Inventory, Node
from reclass_model.repository import Repository, write_atomically
from reclass_model.secrets import (
    AUTHORITY_KEYS,
    TOKEN,
    Keyring,
    digest_key,
    recipients,
    seal,
)
from reclass_model.sources import Loader, Sources

AUTHORITIES = "authorities.yml"
RENEW_BEFORE = timedelta(days=30)  #: a certificate with less than this left is issued anew
Pki = dict[str, dict[str, dict[str, str]]]  #: {"certificate": {name: {"certificate": PEM, …}}, …}


@dataclass(frozen=True)
class Step:
    """One of the steps that replace an authority."""

    name: str
    done: str  #: what is so when all machines are brought to it


TRUST = Step("trust", "every machine trusts the new authority beside the old one")
SIGN = Step("sign", "every certificate is signed by the new authority, the old one is still trusted")
FORGET = Step("forget", "the old authority is trusted no more")
STEPS = (TRUST, SIGN, FORGET)


class Issuer:
    """One run of `issue`: what was there, what is made, all of it kept in memory."""

    def __init__(
        self,
        repository: Repository,
        keyring: Keyring,
        progress: Callable[[str], None],
        renew: Callable[[str, str], bool],
        now: datetime,
    ) -> None:
        self.repository, self.keyring, self.progress, self.renew, self.now = (
            repository,
            keyring,
            progress,
            renew,
            now,
        )
        self.masters: Pki = _read(repository.pki_dir / AUTHORITY_KEYS)
        self.authorities: dict[str, dict[str, str]] = _read(repository.pki_dir / AUTHORITIES).get(
            "authority", {}
        )
        self.operators = list(repository.settings.recipients.operators.values())
        self._keys: dict[str, Any] = {}

    @cached_property
    def configs(self) -> list[str]:
        return Sources(self.repository).config_machines()

    @cached_property
    def digest_key(self) -> bytes:
        return digest_key(self.repository, self.keyring)

    def issue(self) -> list[Path]:
        """Make everything, then write it: the authorities last, because they say which step a rotation has come to."""
        directory = self.repository.pki_dir
        machines: dict[str, Pki] = {}
        acquaintances: dict[str, list[str]] = {}  # machine → keypairs of which it knows every public half
        for node in Inventory(self.repository).nodes():
            machines[node.name] = self.machine(node)
            declared = (node.parameters.get("pki") or {}).get("public_key")
            acquaintances[node.name] = [name for name, _ in present(declared)]
        for machine, names in acquaintances.items():
            if names:
                machines[machine]["public_key"] = {name: _public_halves(name, machines) for name in names}
        files = {
            directory / AUTHORITY_KEYS: self.masters,
            **{directory / f"{machine}.yml": content for machine, content in machines.items()},
            directory / AUTHORITIES: {"authority": self.authorities},
        }
        return [path for path, content in files.items() if _write(path, content)]

    def machine(self, node: Node) -> Pki:
        """What the file of a machine holds."""
        path = self.repository.pki_dir / f"{node.name}.yml"
        declared, there = node.parameters.get("pki") or {}, _read(path)
        readers = recipients(self.repository, path, self.configs)
        for name, wanted in present(declared.get("authority")):
            self._authority(name, wanted)
        sections: Pki = {
            "certificate": {},
            "keypair": {},
            "authority_key": {},
            "secret": {},
        }
        for name, wanted in present(declared.get("certificate")):
            sections["certificate"][name] = self._leaf(
                node.name, name, wanted, there.get("certificate", {}).get(name), readers
            )
        for name, wanted in present(declared.get("keypair")):
            had = there.get("keypair", {}).get(name)
            sections["keypair"][name] = self._shared("keypair", name, wanted, had, readers, _keypair)
        for name, _ in present(declared.get("authority_key")):
            token = there.get("authority_key", {}).get(name, {}).get("private_key")
            sections["authority_key"][name] = {
                "private_key": self._for(self._sealed_key(name), token, readers)
            }
        for name, wanted in present(declared.get("secret")):
            had = there.get("secret", {}).get(name)
            sections["secret"][name] = self._shared("secret", name, wanted, had, readers, _new_secret)
        return {section: content for section, content in sections.items() if content}

    # --- authorities ---

    def _authority(self, name: str, wanted: Mapping[str, Any]) -> None:
        """Make a CA unless its certificate and key are there."""
        if name in self.authorities and name in self.masters.get("authority", {}):
            return
        request = Request(
            str(wanted.get("common_name", name)),
            self.now,
            int(wanted.get("days", 3650)),
        )
        certificate, key = self._new_authority(request)
        self.authorities[name] = {"certificate": certificate}
        self.masters.setdefault("authority", {})[name] = {"private_key": key}
        self.progress(f"authority {name}")

    def _new_authority(self, request: Request) -> tuple[str, str]:
        """The certificate of a new CA, and its sealed key."""
        key = new_key()
        return to_pem(request.self_signed(key)), self._seal(to_pem(key), self.operators)

    def advance(self, name: str) -> Step:
        """Take the next step of replacing a CA."""
        keys = self._authority_keys(name)
        signer, *others = split(self.authorities[name]["certificate"])
        if not others:
            request = renewed(load_certificate(signer), self.now)
            certificate, keys["next_private_key"] = self._new_authority(request)
            bundle, step = [signer, certificate], TRUST
        elif len(keys) > 1 and self._sealed_key(name) == keys["private_key"]:
            bundle, step = [*others, signer], SIGN
        else:
            self.masters["authority"][name] = {"private_key": self._sealed_key(name)}
            bundle, step = [signer], FORGET
        self.authorities[name] = {"certificate": "".join(bundle)}
        return step

    def _authority_keys(self, name: str) -> dict[str, str]:
        if name not in self.authorities or name not in self.masters.get("authority", {}):
            raise OperatorError(
                f"nobody declares the authority {name!r}",
                code="E410",
                hint=f"known: {', '.join(self.authorities) or 'none'} (pki:authority)",
            )
        return self.masters["authority"][name]

    def _sealed_key(self, name: str) -> str:
        """The token of the private key that a CA signs with; there are two while it is replaced."""
        keys = list(self._authority_keys(name).values())
        if len(keys) == 1:
            return keys[0]
        certificate = load_certificate(self.authorities[name]["certificate"])
        for token in keys:
            if fits(load_key(self.keyring.reveal(token)), certificate):
                return token
        raise OperatorError(
            f"no key of the authority {name!r} fits its certificate", code="E412", hint="restore it from git"
        )

    def _signer(self, name: str) -> Any:
        """The private key of a CA."""
        token = self._sealed_key(name)
        if token not in self._keys:
            self._keys[token] = load_key(self.keyring.reveal(token))
        return self._keys[token]

    # --- what machines hold ---

    def _leaf(
        self,
        node: str,
        name: str,
        wanted: Mapping[str, Any],
        had: dict[str, str] | None,
        readers: list[str],
    ) -> dict[str, str]:
        authority = str(wanted.get("authority"))
        request = Request(
            str(wanted.get("common_name", name)),
            self.now,
            int(wanted.get("days", 365)),
            organization=wanted.get("organization"),
            names=names_of(wanted),
            usage=[key for key, _ in present(wanted.get("usage"))],
        )
        if had and not self.renew(node, name) and self._good(had.get("certificate", ""), request, authority):
            return had
        signer = self._signer(authority)
        key = new_key()
        certificate = request.signed(
            key, load_certificate(self.authorities[authority]["certificate"]), signer
        )
        self.progress(f"certificate {node}/{name}")
        return {
            "certificate": to_pem(certificate),
            "private_key": self._seal(to_pem(key), readers),
        }

    def _good(self, pem: str, request: Request, authority: str) -> bool:
        """Whether a certificate is what is declared, by the present authority, and lasts."""
        if end_of(pem) is None or authority not in self.authorities:
            return False
        certificate, issuer = (
            load_certificate(pem),
            load_certificate(self.authorities[authority]["certificate"]),
        )
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        left = certificate.not_valid_after_utc - self.now
        lasts = left > min(RENEW_BEFORE, life / 3)
        return lasts and request.matches(certificate) and issued_by(certificate, issuer)

    def _shared(
        self,
        section: str,
        name: str,
        wanted: Mapping[str, Any],
        had: dict[str, str] | None,
        readers: list[str],
        make: Callable[[Mapping[str, Any]], dict[str, str]],
    ) -> dict[str, str]:
        """A keypair or secret: the machine's own, or (`shared: true`) the same on every machine that declares it."""
        if not wanted.get("shared"):
            return had or self._sealed(make(wanted), readers)
        masters = self.masters.setdefault(section, {})
        if name not in masters:
            masters[name] = self._sealed(make(wanted), self.operators)
            self.progress(f"{section} {name}")
        return {
            field: self._for(text, (had or {}).get(field), readers) for field, text in masters[name].items()
        }

    # --- tokens ---

    def _seal(self, plaintext: str, readers: list[str]) -> str:
        return seal(plaintext, readers, self.digest_key)

    def _sealed(self, fields: Mapping[str, str], readers: list[str]) -> dict[str, str]:
        return {
            key: text if key == "public_key" else self._seal(text, readers) for key, text in fields.items()
        }

    def _for(self, master: str, had: str | None, readers: list[str]) -> str:
        """A master's value for these readers; the token that is there stays while its fingerprint says the same."""
        if (token := TOKEN.fullmatch(master)) is None:
            return master
        present = TOKEN.fullmatch(had or "")
        if had and present and present[1] == token[1]:
            return had
        return self._seal(self.keyring.reveal(master), readers)


def _public_halves(name: str, machines: Mapping[str, Pki]) -> dict[str, str]:
    """Machine → its public key of the keypair `name`."""
    return {
        machine: content["keypair"][name]["public_key"]
        for machine, content in machines.items()
        if name in content.get("keypair", {})
    }


def names_of(declared: Mapping[str, Any]) -> list[str]:
    """The names of a certificate: `{<name>: {}}`, or `{<any>: <name>}` where the name is a reference."""
    return [str(value or key) for key, value in present(declared.get("names"))]


def present(declared: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, value) for name, value in (declared or {}).items() if value is not None]


def _keypair(_: Mapping[str, Any]) -> dict[str, str]:
    key = new_keypair()
    return {"public_key": to_pem(key.public_key()), "private_key": to_pem(key)}


def _new_secret(wanted: Mapping[str, Any]) -> dict[str, str]:
    """A random value. Formats: `bootstrap_token` (abcdef.0123456789abcdef), `base64` of `bytes`, `password`."""
    import base64

    size = int(wanted.get("bytes", 32))
    kind = wanted.get("format", "password")
    if kind == "bootstrap_token":
        return {"value": f"{random.token_hex(3)}.{random.token_hex(8)}"}
    if kind == "base64":
        return {"value": base64.b64encode(os.urandom(size)).decode()}
    if kind == "password":
        return {"value": random.token_urlsafe(size)}
    raise OperatorError(
        f"unknown format {kind!r} of a secret",
        code="E410",
        hint="bootstrap_token, base64, password",
    )


# --- files ---


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """PEM as literal blocks, so that a diff of it can be read."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def _read(path: Path) -> Pki:
    if not path.is_file():
        return {}
    try:
        data = yaml.load(path.read_text(), Loader) or {}
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise OperatorError.unreadable(error, f"pki/{path.name}") from None
    return dict((data.get("parameters") or {}).get("pki") or {})


def _write(path: Path, content: Pki) -> bool:
    data = {"parameters": {"pki": content} if content else {}}
    text = "# Written by `ostack-k8s pki issue`.\n" + yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, width=1 << 16
    )
    if path.is_file() and path.read_text() == text:
        return False
    write_atomically(path, text)
    return True
