"""Our own packages as a wheel, made from what is running: installed or a checkout, it is the same.

A lab machine must run the code that started it. The node image holds the third-party packages; this wheel is
installed on top with `--no-deps`, in seconds.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import zipfile
from pathlib import Path

DISTRIBUTION = "ostack-k8s"
PACKAGES = ("cli", "kubernetes_formula", "openstack_images", "reclass_model")
_TIME = (1980, 1, 1, 0, 0, 0)
_WHEEL = "Wheel-Version: 1.0\nGenerator: ostack-k8s\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def dependencies(extra: str) -> tuple[str, ...]:
    """The requirements of the base install and of one extra, sorted, as pip takes them."""
    found = []
    for requirement in importlib.metadata.requires(DISTRIBUTION) or ():
        name, _, marker = requirement.partition(";")
        if not marker or marker.strip() == f'extra == "{extra}"':
            found.append(name.strip())
    return tuple(sorted(found))


def build() -> tuple[str, bytes]:
    """File name and content; the same sources give the same bytes."""
    card = importlib.metadata.distribution(DISTRIBUTION)
    metadata = card.read_text("METADATA") or card.read_text("PKG-INFO") or ""
    stem = f"{DISTRIBUTION.replace('-', '_')}-{card.version}"
    files = {name: path.read_bytes() for package in PACKAGES for name, path in _files(package)}
    files[f"{stem}.dist-info/METADATA"] = metadata.encode()
    files[f"{stem}.dist-info/WHEEL"] = _WHEEL.encode()
    files[f"{stem}.dist-info/entry_points.txt"] = (card.read_text("entry_points.txt") or "").encode()
    record = f"{stem}.dist-info/RECORD"
    files[record] = "".join(f"{name},,\n" for name in [*sorted(files), record]).encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _TIME), files[name], zipfile.ZIP_DEFLATED)
    return f"{stem}-py3-none-any.whl", content.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _files(package: str) -> list[tuple[str, Path]]:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} is part of this installation"
    root = Path(next(iter(spec.submodule_search_locations)))
    return [
        (f"{package}/{path.relative_to(root).as_posix()}", path)
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
