"""A plan in words: what changes and why (file:line), what it touches, in which order, and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cli.output.errors import place_of
from cli.output.terminal import write

if TYPE_CHECKING:
    from cli.workflows.plan import Plan
    from kubernetes_formula.rollout import Step

SIGNS = {"create": ("+", "green"), "change": ("~", "yellow"), "delete": ("-", "red")}
IMPACT = {
    "none": ("green", "none: requests keep being answered, servers keep running"),
    "api": ("yellow", "API: an API is away for a moment, servers keep running"),
    "data_plane": ("red", "data plane: running servers or their network are touched"),
}
SHOWN = 12  # lines of one kind before the rest is only counted, except values and steps


def print_plan(plan: Plan, names: tuple[str, str], warnings: Sequence[str]) -> None:
    """Print the plan; `names` are the two commits as people know them."""
    write(f"Plan {plan.digest}   {names[0]} → {names[1]}", style="bold")
    for warning in warnings:
        write(f"! {warning}", style="yellow")
    if not plan.values and not plan.changes_anything:
        write("Nothing changes.", style="green")
        return
    _values(plan)
    _images(plan)
    _objects(plan)
    _pods(plan)
    _nodes(plan)
    _steps(plan)


def _heading(title: str, summary: str) -> None:
    from rich.text import Text

    from cli.output.terminal import console

    console().print()
    console().print(Text.assemble((f"{title:<10}", "bold"), (summary, "dim" if summary == "none" else "")))


def _lines(lines: Sequence[tuple[str, str]], limit: int = SHOWN) -> None:
    for text, style in lines[:limit]:
        write(text, style=style, indent=2)
    if len(lines) > limit:
        write(f"… and {len(lines) - limit} more (`-o json` has all)", style="dim", indent=2)


def _values(plan: Plan) -> None:
    if not plan.values:
        _heading("Values", "none" if plan.before else "everything is new: nothing is deployed yet")
        return
    written = [change for change in plan.values if not change.derived]
    follow = len(plan.values) - len(written)
    _heading("Values", f"{len(written)} changed" + (f", {follow} follow from them" if follow else ""))
    for change in written:
        where = place_of(change.file, change.line)
        what = (
            f"{change.path}: {_short(change.before)} → {_short(change.after)}"
            if change.path
            else f"machine {change.kind}"
        )
        write(what, style="yellow", indent=2)
        write(f"{where}   on {_machines(change.nodes)}".strip(), style="dim", indent=6)


def _images(plan: Plan) -> None:
    counts = Counter(image.action for image in plan.images)
    parts = [f"{counts[action]} to {action}" for action in ("build", "bake") if counts[action]]
    parts += [f"{counts['remove']} no longer used"] if counts["remove"] else []
    _heading(
        "Images", ", ".join([*parts, f"{plan.reused} reused"]) if parts else f"none ({plan.reused} reused)"
    )
    what = {"build": "packages by Docker, then its configuration", "bake": "configuration only, no Docker"}
    _lines(
        [
            (
                f"{image.action:<6} {image.reference or image.before}   {what.get(image.action, '')}".rstrip(),
                "cyan",
            )
            for image in plan.images
        ]
    )


def _objects(plan: Plan) -> None:
    counts = Counter(change.action for change in plan.objects)
    summary = "   ".join(f"{SIGNS[action][0]} {counts[action]}" for action in SIGNS if counts[action])
    _heading("Objects", summary or "none")
    lines = []
    for change in plan.objects:
        sign, colour = SIGNS[change.action]
        place = f"{change.namespace}/{change.name}" if change.namespace else change.name
        fields = f"   {', '.join(change.fields[:3])}" if change.fields else ""
        more = f" … {len(change.fields) - 3} more" if len(change.fields) > 3 else ""
        lines.append((f"{sign} {change.kind} {place}{fields}{more}", colour))
    _lines(lines)


def _pods(plan: Plan) -> None:
    counts = Counter(pod.action for pod in plan.pods)
    words = {"start": "new", "restart": "restarted", "scale": "scaled", "stop": "stopped"}
    found = [f"{counts[action]} workload(s) {word}" for action, word in words.items() if counts[action]]
    _heading("Pods", ", ".join(found) or "none")
    lines = []
    for pod in plan.pods:
        if pod.action == "scale":
            number = f"{pod.before} → {pod.after}"
        else:
            replicas = pod.before if pod.action == "stop" else pod.after
            number = (
                "one on each machine" if replicas is None else f"{replicas} pod{'s' if replicas != 1 else ''}"
            )
        lines.append((f"{pod.action:<8}{pod.namespace}/{pod.name}   {number}", "cyan"))
    _lines(lines)


def _nodes(plan: Plan) -> None:
    _heading("Machines", f"{len(plan.nodes)} to apply (`salt-call state.apply`)" if plan.nodes else "none")
    _lines(
        [(f"{node.action:<8}{node.name}   {_first(node.paths)}".rstrip(), "magenta") for node in plan.nodes]
    )


def _steps(plan: Plan) -> None:
    waits = _waits(plan.steps)
    order = "each after those it names, else after the one above" if any(waits) else "in this order"
    _heading("Steps", order if plan.steps else "none")
    for number, (step, waited) in enumerate(zip(plan.steps, waits, strict=True), 1):
        colour, _ = IMPACT[step.impact]
        detail = f"   {_short(step.detail, 90)}" if step.detail else ""
        write(
            f"{number:>3}. {step.name}{waited}{detail}", style="" if colour == "green" else colour, indent=1
        )
    colour, words = IMPACT[plan.impact]
    write()
    write(f"Impact    {words}", style=colour)
    if any(node.action == "apply" for node in plan.nodes):
        write(
            "of `deploy`; what a machine restarts, `salt-call state.apply test=True` there tells", "dim", 10
        )
    if plan.finalize:
        write(f"Later     {len(plan.finalize)} step(s) wait for `ostack-k8s finalize`:", style="bold")
        for step in plan.finalize:
            write(step.name, style="dim", indent=10)
    if plan.no_return:
        write(f"No return {_way_back(plan.no_return)}", style="bold")


def _waits(steps: Sequence[Step]) -> list[str]:
    """The numbers of the steps that each waits for, where these are not just the one above."""
    numbers = {step.name: number for number, step in enumerate(steps, 1)}
    words = []
    for number, step in enumerate(steps, 1):
        waits = [numbers[name] for name in step.after]
        above = waits == [number - 1] or number == 1
        words.append("" if above else f"   after {', '.join(map(str, waits))}" if waits else "   at once")
    return words


def _way_back(step: str) -> str:
    if step == "finalize":
        return "after `ostack-k8s finalize`; until then `ostack-k8s rollback` brings the old release back"
    return f'after step "{step}": from there only the database\'s snapshot brings the old release back'


def _machines(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} machines"


def _first(paths: Sequence[str]) -> str:
    return ", ".join(paths[:2]) + (f" … {len(paths) - 2} more" if len(paths) > 2 else "")


def _short(value: Any, width: int = 60) -> str:
    from cli.output.structured import dump

    if value is None:
        return "(not set)"
    text = " ".join(value.splitlines() if isinstance(value, str) else dump(value, "json").split())
    return text if len(text) <= width else text[: width - 1] + "…"
