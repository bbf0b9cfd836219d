"""Pillar → Kubernetes objects and Compose services. Pure: reads no file, asks no cluster."""

from __future__ import annotations

from kubernetes_formula.manifests.compose import compose, left_out, secret_files
from kubernetes_formula.manifests.overlay import (
    Endpoint,
    Image,
    Job,
    Object,
    Overlay,
    Workload,
    file_name,
    key,
)
from kubernetes_formula.manifests.rendering import render

__all__ = [
    "Endpoint",
    "Image",
    "Job",
    "Object",
    "Overlay",
    "Workload",
    "compose",
    "file_name",
    "key",
    "left_out",
    "render",
    "secret_files",
]
