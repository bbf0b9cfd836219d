"""The administrator's way into the cluster, derived from the model: a client certificate signed by the model's own CA.

Valid for a day and made again when half of it is over; kept 0600 in the user's cache.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from reclass_model.cache import cache_directory
from reclass_model.errors import OperatorError
from reclass_model.inventory import Inventory
from reclass_model.repository import Repository, write_atomically
from reclass_model.secrets import AUTHORITY_KEYS, Keyring
from reclass_model.sources import Loader

AUTHORITY = "kubernetes"
COMMON_NAME = "ostack-k8s-admin"
ORGANIZATION = "system:masters"
API_PORT = 6443
_RENEW_BEFORE = timedelta(hours=12)


def kept_at(cluster: str) -> Path:
    """Where this user's way into a cluster is kept."""
    return cache_directory() / cluster / "admin.kubeconfig"


def kubeconfig(repository: Repository, keyring: Keyring, path: Path | None = None) -> Path:
    """An administrator's kubeconfig for the model's cluster; its path.

    OperatorError E643 when the model has no CA yet, E644 when none of its copies can be opened with `keyring`.
    """
    path = path or kept_at(repository.settings.cluster_name)
    parameters = Inventory(repository).config_node().parameters
    authority = parameters.get("pki", {}).get("authority", {}).get(AUTHORITY, {}).get("certificate")
    if not authority:
        raise OperatorError(
            f"the model has no certificate of the authority {AUTHORITY!r}",
            code="E643",
            hint="`ostack-k8s pki issue`",
        )
    server = f"https://{parameters['_param']['master_address']}:{API_PORT}"
    if not _still_good(path, server, authority):
        certificate, key = _sign(authority, _authority_key(repository, keyring, authority))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(
            path,
            _kubeconfig(repository.settings.cluster_name, server, authority, certificate, key),
            mode=0o600,
        )
    return path


def _still_good(path: Path, server: str, authority: str) -> bool:
    from reclass_model.certificates import load_certificate

    try:
        data = yaml.safe_load(path.read_text())
        cluster, user = data["clusters"][0]["cluster"], data["users"][0]["user"]
        same = cluster == {"server": server, "certificate-authority-data": _encoded(authority)}
        certificate = load_certificate(base64.b64decode(user["client-certificate-data"]).decode())
    except (OSError, yaml.YAMLError, KeyError, TypeError, IndexError, ValueError, OperatorError):
        return False
    return bool(same and certificate.not_valid_after_utc - datetime.now(UTC) > _RENEW_BEFORE)


def _authority_key(repository: Repository, keyring: Keyring, authority: str) -> str:
    """The CA's private key: operators have it in the file of keys, the config machine in a master's file."""
    from reclass_model.certificates import fits, load_certificate, load_key

    refusal: OperatorError | None = None
    for token in _tokens(repository):
        try:
            key = str(keyring.reveal(token))
        except OperatorError as error:
            refusal = error
            continue
        if fits(load_key(key), load_certificate(authority)):  # while the CA is replaced there are two
            return key
    why = f": {refusal.problems[0].message}" if refusal else ""
    raise OperatorError(
        f"the key of the authority {AUTHORITY!r} cannot be opened{why}",
        code="E644",
        file=repository.relative(repository.pki_dir / AUTHORITY_KEYS),
        hint="run this as an operator, or as root on the config machine",
    )


def _tokens(repository: Repository) -> Iterator[str]:
    masters = repository.pki_dir / AUTHORITY_KEYS
    for path in [masters, *sorted(repository.pki_dir.glob("*.yml"))]:
        text = path.read_text() if path.is_file() else ""
        if path != masters and "authority_key:" not in text:
            continue  # of a thousand machines few sign, and YAML takes its time
        data: dict[str, Any] = yaml.load(text, Loader) or {}
        pki = (data.get("parameters") or {}).get("pki") or {}
        for section in ("authority", "authority_key"):
            fields = (pki.get(section) or {}).get(AUTHORITY) or {}
            yield from (token for name, token in fields.items() if name.endswith("private_key"))


def _sign(authority: str, authority_key: str) -> tuple[str, str]:
    from reclass_model.certificates import Request, load_certificate, load_key, new_key, to_pem

    key = new_key()
    request = Request(COMMON_NAME, datetime.now(UTC), 1, organization=ORGANIZATION, usage=("client",))
    certificate = request.signed(key, load_certificate(authority), load_key(authority_key))
    return to_pem(certificate), to_pem(key)


def _kubeconfig(cluster: str, server: str, authority: str, certificate: str, key: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": cluster,
                    "cluster": {"server": server, "certificate-authority-data": _encoded(authority)},
                }
            ],
            "users": [
                {
                    "name": COMMON_NAME,
                    "user": {
                        "client-certificate-data": _encoded(certificate),
                        "client-key-data": _encoded(key),
                    },
                }
            ],
            "contexts": [
                {
                    "name": cluster,
                    "context": {"cluster": cluster, "user": COMMON_NAME, "namespace": "openstack"},
                }
            ],
            "current-context": cluster,
        },
        sort_keys=False,
    )


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
