"""The bundle: what machines install from, a directory in the layout of the upstream release URLs.

The model says what is in it (`bundle:artifact`, class system.bundle); `build` fills it, from upstream or from source;
`verify` holds it against the model's checksums and its own; `record` writes those checksums into the model, where the
Salt states find them. A build can be interrupted and run again: each artifact is put in place whole or not at all.
"""

from __future__ import annotations

from kubernetes_formula.bundle.artifact import Artifact
from kubernetes_formula.bundle.build import build
from kubernetes_formula.bundle.checksums import inspect, record, verify

__all__ = ["Artifact", "build", "inspect", "record", "verify"]
