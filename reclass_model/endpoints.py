"""What clients outside of the cluster use: the endpoints of the workloads, and the certificate that is served there.

Read by what asks them (checks, measurements) and by `validate`, which holds the certificate's names against the URLs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from reclass_model.inventory import get

CERTIFICATE = "kubernetes:control:certificate"
WORKLOADS = "kubernetes:control:workload"


def authority(parameters: Mapping[str, Any]) -> str | None:
    """The certificate (PEM) of the CA that signed what is served; None where that is no CA of the model."""
    name = get(parameters, CERTIFICATE, None)
    if not name:
        return None
    signer = get(parameters, f"pki:certificate:{name}:authority")
    return str(get(parameters, f"pki:authority:{signer}:certificate"))


def hosts(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(path in the pillar, name or address) of each endpoint that is asked with TLS."""
    for workload, description in (get(parameters, WORKLOADS, None) or {}).items():
        for name, endpoint in ((description or {}).get("endpoint") or {}).items():
            parts = urlsplit(str((endpoint or {}).get("url", "")))
            if parts.scheme == "https" and parts.hostname:
                yield f"{WORKLOADS}:{workload}:endpoint:{name}:url", parts.hostname
