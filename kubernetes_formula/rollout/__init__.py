"""Overlay → cluster: plan (pure), then deploy, roll back, finalize, and see how it is.

plan.py says which steps, executor.py runs them, record.py keeps what happened in the cluster, lease.py sees that one
runs at a time, probes.py measures the APIs meanwhile, timeline.py says what the time went to.
"""

from __future__ import annotations

from kubernetes_formula.rollout.access import kubeconfig
from kubernetes_formula.rollout.changes import ObjectChange, object_changes
from kubernetes_formula.rollout.cluster import Cluster
from kubernetes_formula.rollout.executor import Executor, Timing
from kubernetes_formula.rollout.plan import Step, plan, released
from kubernetes_formula.rollout.record import Records, RolloutRecord, StepResult
from kubernetes_formula.rollout.rollouts import (
    Deployed,
    deploy,
    deploy_steps,
    deployed,
    finalize,
    finalize_steps,
    rollback,
    rollback_steps,
    run_job,
)
from kubernetes_formula.rollout.status import Drift, Status, WorkloadStatus, status
from kubernetes_formula.rollout.timeline import Link, critical_path, duration

__all__ = [
    "Cluster",
    "Deployed",
    "Drift",
    "Executor",
    "Link",
    "ObjectChange",
    "Records",
    "RolloutRecord",
    "Status",
    "Step",
    "StepResult",
    "Timing",
    "WorkloadStatus",
    "critical_path",
    "deploy",
    "deploy_steps",
    "deployed",
    "duration",
    "finalize",
    "finalize_steps",
    "kubeconfig",
    "object_changes",
    "plan",
    "released",
    "rollback",
    "rollback_steps",
    "run_job",
    "status",
]
