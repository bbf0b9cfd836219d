"""Is a live workload as it should be? Pure: read from the object's own status, or from its pods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kubernetes_formula.manifests import Object

#: A pod that waits for one of these reasons will hardly start without a person.
HOPELESS = frozenset(
    {
        "CrashLoopBackOff",
        "Restarting",
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "FailedMount",
        "FailedAttachVolume",
    }
)


@dataclass(frozen=True)
class Health:
    """Whether all wanted pods are there, new and ready, and the count in words."""

    ok: bool
    message: str


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not run."""

    pod: str
    container: str
    reason: str
    message: str

    @property
    def hopeless(self) -> bool:
        """Whether waiting is unlikely to help."""
        return self.reason in HOPELESS

    @property
    def crashed(self) -> bool:
        """Whether the program itself ended, so that its last lines say why."""
        return self.reason in ("CrashLoopBackOff", "Restarting")

    def __str__(self) -> str:
        return f"pod {self.pod}: {self.reason}" + (f": {self.message}" if self.message else "")


def health(live: Object | None) -> Health:
    """The health of a Deployment, StatefulSet, DaemonSet or CronJob (which is healthy when it is there)."""
    if live is None:
        return Health(False, "is not there")
    status = live.get("status", {})
    if live["kind"] == "CronJob":
        return Health(True, f"runs at {live['spec']['schedule']}")
    if live["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        new, ready, total = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0), wanted
    else:
        wanted = live["spec"].get("replicas", 1)
        new, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
        ready = status.get("availableReplicas", 0)
    if _on_delete(live):
        new = wanted  # a person deletes the pods, when it suits
    if status.get("observedGeneration", 0) < live["metadata"].get("generation", 0):
        return Health(False, "its controller has not seen the change yet")
    done = new == ready == total == wanted
    old = f", {total - new} old" if total > new else ""
    return Health(done, f"{ready} of {wanted} ready, {new} new{old}")


def stuck(live: Object | None, pods: Iterable[Object]) -> Iterator[str]:
    """Names of a StatefulSet's pods that cannot start and that it will not replace by itself.

    It waits for a pod of the former template to become ready before it goes on with the new one, also where that
    can never be (an image that does not exist): https://kubernetes.io/docs, StatefulSets, forced rollback.
    """
    if live is None or live["kind"] != "StatefulSet" or _on_delete(live):
        return
    revision = live.get("status", {}).get("updateRevision")
    for pod in pods:
        former = pod["metadata"].get("labels", {}).get("controller-revision-hash") != revision
        if revision and former and any(trouble.hopeless for trouble in troubles([pod])):
            yield str(pod["metadata"]["name"])


def _on_delete(live: Object) -> bool:
    return bool(live["spec"].get("updateStrategy", {}).get("type") == "OnDelete")


def succeeded(job: Object, pods: Iterable[Object]) -> bool:
    """Whether a Job is complete, or its pod is: the Job itself says so a second or two later."""
    return _condition(job, "Complete") or any(
        pod.get("status", {}).get("phase") == "Succeeded" for pod in pods
    )


def failed(job: Object) -> bool:
    """Whether a Job has given up."""
    return _condition(job, "Failed")


def troubles(pods: Iterable[Object]) -> Iterator[Trouble]:
    """What keeps pods from running, pod by pod."""
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        for condition in status.get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                yield Trouble(name, "", condition.get("reason", ""), condition.get("message", ""))
        for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            waiting = container.get("state", {}).get("waiting")
            if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
                yield Trouble(name, container["name"], waiting.get("reason", ""), waiting.get("message", ""))
            elif container.get("restartCount", 0) >= 3 and not container.get("ready"):
                times = container["restartCount"]
                yield Trouble(
                    name, container["name"], "Restarting", f"{container['name']} ended {times} times"
                )


def preparing(pod: Object) -> bool:
    """Whether a pod has a machine, but none of its containers has begun: images, volumes."""
    status = pod.get("status", {})
    begun = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    waits = {each.get("state", {}).get("waiting", {}).get("reason") for each in begun}
    scheduled = bool(pod.get("spec", {}).get("nodeName"))
    return (
        scheduled and status.get("phase") == "Pending" and waits <= {"ContainerCreating", "PodInitializing"}
    )


def complaint(pod: Object, warnings: Iterable[str]) -> Trouble | None:
    """Why a pod is not prepared, from the cluster's warnings: "FailedMount: …", the last one that tells."""
    told = [warning.split(": ", 1) for warning in warnings if warning.split(":")[0] in HOPELESS]
    return Trouble(pod["metadata"]["name"], "", *told[-1]) if told else None


def _condition(item: Object, kind: str) -> bool:
    conditions = item.get("status", {}).get("conditions", [])
    return any(each["type"] == kind and each["status"] == "True" for each in conditions)
