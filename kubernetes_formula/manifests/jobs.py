"""Jobs of a workload: `job:` of the pillar → Kubernetes Jobs, named by a digest of their template.

A Job is never patched: a changed template is a new Job. For `bootstrap` and `configure` the digest leaves out the
image, so that neither a new configuration nor a new release sets a service up again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kubernetes_formula.manifests import pods
from kubernetes_formula.manifests.overlay import PHASES, Job, Object, followed
from kubernetes_formula.manifests.program import Program, error, required
from kubernetes_formula.manifests.sealed import Sealed

#: Phases whose Jobs run again when what they are told changes, not with every new image.
_SETTING_UP = ("bootstrap", "configure")
#: A failed pod of a Job is made anew as often.
RETRIES = 3
_DEADLINE_SECONDS = 1800


def job(name: str, description: Mapping[str, Any], program: Program, sealed: Sealed | None) -> Job:
    """The Job `name` of the workload that `program` (of_job) belongs to."""
    phase = required(description, "phase", program.path)
    if phase not in PHASES:
        path = f"{program.path}:phase"
        raise error("E610", f"{path} is {phase!r}", path, hint=f"one of: {', '.join(PHASES)}")
    spec = pods.spec(program, sealed, serves=False) | {"restartPolicy": "Never"}
    template: Object = {"metadata": {"labels": program.labels()}, "spec": spec}
    item: Object = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": program.metadata(f"{program.name}-{_digest(template, phase)}"),
        "spec": {"backoffLimit": RETRIES, "activeDeadlineSeconds": _DEADLINE_SECONDS, "template": template},
    }
    after = followed(description) if "after" in description else None
    return Job(program.workload, name, phase, int(description.get("order", 0)), item, after)


def _digest(template: Object, phase: str) -> str:
    spec = template["spec"]
    if phase in _SETTING_UP:
        spec = {**spec, "containers": [{**each, "image": None} for each in spec["containers"]]}
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
