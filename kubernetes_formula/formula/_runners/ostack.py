"""Runners of the Salt master: the underlay in order, told as it goes, and the command line's deploy."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MODEL = "/srv/ostack-k8s/model"
ANSWER_SECONDS = 60
NAMED = 5  # states of a run that are told by name


def underlay(only: list[str] | str = "", absent: list[str] | str = "", test: bool = False) -> dict[str, Any]:
    """Run the orchestration `ostack.underlay` (state.orch), with a line on stderr for each machine that is done.

    `only`: machines (a list, or names with commas between) instead of all; `absent`: machines that are not there, and
    are not even needed to label the others' Nodes. Returns what was done on each machine
    ({states, changed, failed: {state: why}, seconds}) and `failed`, the phases that did not succeed; exit code 1 then.

    CLI: salt-run ostack.underlay only=cmp03.example.org test=True
    """
    machines, away = (
        names.split(",") if isinstance(names, str) and names else list(names) for names in (only, absent)
    )
    told: dict[str, list[Any]] = {}
    # in test mode the orchestration does not wait by itself
    error = answers(machines, "applied").get("Error", "") if test else _master_itself()
    if error:
        return {"machines": {}, "failed": {"the master and its machines": error}, "retcode": 1}
    with _listening(told):
        done = __salt__["state.orchestrate"](
            "ostack.underlay",
            test=test or None,
            pillar={"only": machines, "absent": away, "master": "applied"},
        )
    from kubernetes_formula.outcome import joined

    phases = next(iter(done["data"].values()))
    failed = (
        {
            state["__id__"]: _why(state)
            for state in phases.values()
            if state["result"] is False and "requisite failed" not in state["comment"]
        }
        if isinstance(phases, dict)
        else {"orchestration": "\n".join(map(str, phases))}
    )
    outcomes = {machine: joined(runs).as_dict() for machine, runs in sorted(told.items())}
    return {"machines": outcomes, "failed": failed, "retcode": done["retcode"]}


def answers(machines: list[str], master: str = "", timeout: int = ANSWER_SECONDS) -> dict[str, Any]:
    """Wait until each of these machines answers the master; fails naming those that do not.

    Before, unless `master` says that it is "applied", the master takes the model's keys: machines may be new.
    """
    import salt.client

    if not master and (error := _master_itself()):
        return {"Error": error}
    missing = set(machines)
    until = time.monotonic() + timeout
    with salt.client.LocalClient(mopts=__opts__) as client:
        while True:
            # Short rounds: a machine that is new asks for its key again in a moment, and would be waited for in vain.
            asked = client.cmd_iter(
                sorted(missing), "test.ping", tgt_type="list", timeout=2, gather_job_timeout=2
            )
            # one that never came is told too, with "failed"
            missing -= {
                machine for answer in asked for machine, said in answer.items() if said.get("ret") is True
            }
            if not missing or time.monotonic() > until:
                break
    if missing:
        return {
            "Error": f"no answer within {timeout} s from {', '.join(sorted(missing))}: "
            "is salt-minion running there (journalctl -u salt-minion), is the machine in the model?"
        }
    return {"answering": sorted(machines)}


def deploy(revision: str = "HEAD") -> dict[str, int]:
    """Run `ostack-k8s deploy REVISION --yes` in the master's checkout, seen on the terminal; its exit code."""
    command = ["ostack-k8s", "deploy", "-C", MODEL, revision, "--yes"]
    return {"retcode": subprocess.run(command, check=False).returncode}


def _master_itself() -> str:
    """Apply salt.master, without the master, since it may restart it; what went wrong, or ""."""
    command = ["salt-call", "--local", "--state-output", "mixed", "--log-level", "error"]
    command += ["state.apply", "salt.master", "sync_mods=all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip()


def _why(phase: dict[str, Any]) -> str:
    returned = phase["changes"].get("return")
    if isinstance(returned, dict) and "Error" in returned:
        return returned["Error"]
    said = phase["changes"].get("ret") or {}  # of a function on machines: what it raised there
    return "; ".join(text for text in said.values() if isinstance(text, str)) or phase["comment"]


@contextmanager
def _listening(told: dict[str, list[Any]]) -> Iterator[None]:
    """Collect what machines return of their states in `told`, and tell it, while the block runs."""
    import salt.utils.event

    over = threading.Event()

    def listen() -> None:
        with salt.utils.event.get_event(
            "master", sock_dir=__opts__["sock_dir"], opts=__opts__, listen=True
        ) as bus:
            ready.set()
            while True:
                event = bus.get_event(wait=0.5, tag="salt/job/", full=True)
                if event is None:
                    if over.is_set():
                        return
                elif "/ret/" in event["tag"] and event["data"].get("fun") in (
                    "state.sls",
                    "state.highstate",
                ):
                    told.setdefault(event["data"]["id"], []).append(_tell(event["data"]))

    ready = threading.Event()
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    ready.wait()
    try:
        yield
    finally:
        over.set()
        listener.join()


def _tell(data: dict[str, Any]) -> Any:
    from kubernetes_formula.outcome import causes, read

    outcome = read(data["return"])
    what = data["fun_args"][0] if data["fun"] == "state.sls" else "all its states"
    _say(
        f"{data['id']}: {what}: {outcome.states} states, {len(outcome.changed)} changed, "
        f"{len(outcome.failed)} failed ({outcome.seconds:.0f} s)"
    )
    if 0 < len(outcome.changed) <= NAMED:
        _say(f"{data['id']}: changed: {'; '.join(sorted(outcome.changed))}")
    for state, comment in causes(outcome.failed)[:NAMED]:
        _say(f"{data['id']}: FAILED {state}: {comment}")
    return outcome


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
