"""Work that has an order, by a few threads at once: a task begins when those before it are done.

Images are built with it, and rollouts run.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from queue import SimpleQueue

from reclass_model.errors import OperatorError, Problem


@dataclass(frozen=True)
class Task:
    """What to do, and the names of the tasks that come before."""

    run: Callable[[], None]
    after: frozenset[str] = frozenset()


def run_in_order(tasks: Mapping[str, Task], workers: int) -> None:
    """Run all of them; of those that may begin, first the one with the longest row of tasks behind it.

    When one fails, those that run come to their end and no other begins.
    OperatorError with what is wrong with each that failed. An interruption of the caller is raised at once: the threads
    do not keep the process.
    """
    order = TopologicalSorter({name: task.after for name, task in tasks.items()})
    order.prepare()
    behind = _behind(tasks)
    ended: SimpleQueue[tuple[str, BaseException | None]] = SimpleQueue()
    ready: list[str] = []
    failures: list[BaseException] = []
    running = 0

    def run(name: str) -> None:
        try:
            tasks[name].run()
        except BaseException as error:  # raised again by the caller's thread
            ended.put((name, error))
        else:
            ended.put((name, None))

    while order.is_active():
        ready = sorted([*ready, *order.get_ready()], key=lambda name: (-behind[name], name))
        while ready and running < workers and not failures:
            threading.Thread(target=run, args=(ready.pop(0),), daemon=True).start()
            running += 1
        if not running:
            break
        name, failure = ended.get()
        running -= 1
        if failure is None:
            order.done(name)
        else:
            failures.append(failure)
    if failures:
        raise _together(failures)


def _behind(tasks: Mapping[str, Task]) -> Mapping[str, int]:
    """Task → how many tasks, one after the other, can only follow it."""
    order = TopologicalSorter({name: task.after for name, task in tasks.items()}).static_order()
    behind: dict[str, int] = defaultdict(int)
    for name in reversed([*order]):
        for before in tasks[name].after:
            behind[before] = max(behind[before], behind[name] + 1)
    return behind


def _together(failures: list[BaseException]) -> BaseException:
    """All that operators can mend as one error; anything else goes first, as it is."""
    problems: list[Problem] = []
    for failure in failures:
        if not isinstance(failure, OperatorError):
            return failure
        problems += failure.problems
    return OperatorError.of(*dict.fromkeys(problems))
