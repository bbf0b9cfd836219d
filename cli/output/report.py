"""What a rollout did and how the cluster is, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cli.output.terminal import print_table, write

if TYPE_CHECKING:
    from kubernetes_formula.rollout import Status


def print_report(report: Mapping[str, Any]) -> None:
    """The steps with their share of the time, what determined it, then what clients of the APIs noticed."""
    good = report["result"] == "done"
    write(
        f"{report['action']} {report['rollout']}: {report['result']}",
        style="bold green" if good else "bold red",
    )
    print_table(
        ("step", "phase", "result", "begun", "seconds", "share"),
        [
            (
                s["name"],
                s["phase"],
                s["result"],
                f"{s['begun']:.1f}",
                f"{s['seconds']:.1f}",
                _share(s, report),
            )
            for s in report["steps"]
        ],
        styles=("bold", "dim"),
    )
    if report["critical_path"]:
        write(f"Critical path, {report['seconds']:.1f} s: {_path(report['critical_path'])}")
    for endpoint, seen in sorted(report["downtime"].items()):
        write(
            f"{endpoint}: {seen['requests']} requests while it ran, {seen['failed']} failed,"
            f" longest gap {seen['longest_gap_s']} s",
            style="red" if seen["failed"] else "green",
        )
    if report["checks"]:
        write()
        print_checks(report["checks"])
        seconds = sum(check["seconds"] for check in report["checks"])
        write(f"{report['seconds'] + seconds:.1f} s: steps {report['seconds']:.1f} s, checks {seconds:.1f} s")


def _share(step: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Of the whole time; together more than all of it where steps ran side by side."""
    return f"{100 * step['seconds'] / (report['seconds'] or 1):.0f} %"


def _path(links: Sequence[Mapping[str, Any]]) -> str:
    """`⇢`: this one waited for a place, not for the one before it."""
    words = [f"{'⇢ ' if link['place'] else '→ '}{link['name']} {link['seconds']:.1f}" for link in links]
    return " ".join(words).removeprefix("→ ")


def print_checks(checks: Sequence[Mapping[str, Any]]) -> None:
    """What was asked at the end of a deployment, and how it was answered."""
    print_table(
        ("check", "result", "seconds", ""),
        [(c["name"], c["result"], f"{c['seconds']:.1f}", c["detail"]) for c in checks],
        styles=("bold",),
    )


def print_status(status: Status) -> None:
    """Workloads, the latest rollout, and what is not as the model says."""
    print_table(
        ("workload", "kind", "release", "", "state"),
        [(w.name, w.kind, w.release or "-", "ok" if w.ok else "NOT OK", w.message) for w in status.workloads],
        styles=("bold", "dim"),
    )
    latest = status.rollout
    if latest:
        write(
            f"\nLatest rollout: {latest['action']} {latest['id']} of {latest['revision'][:12]}: {latest['state']}"
        )
    else:
        write("\nNothing was ever deployed.")
    if not status.drift:
        write("The cluster is as the model says.", style="green")
        return
    write(f"{len(status.drift)} object(s) are not as the model says:", style="yellow")
    for drift in status.drift:
        fields = f"   {', '.join(drift.fields[:3])}" if drift.fields else ""
        place = f"{drift.namespace}/{drift.name}" if drift.namespace else drift.name
        write(f"{drift.difference:<8} {drift.kind} {place}{fields}", indent=2)
    write("`ostack-k8s deploy --repair` brings them back.")
