"""Work in order by a few threads: what comes first, how many at a time, and what a failure or Ctrl-C does."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from reclass_model.errors import OperatorError
from reclass_model.workers import Task, run_in_order


class Work:
    """Tasks that say when they ran, and how many at a time."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def task(self, name: str, *after: str, seconds: float = 0.02, error: Exception | None = None) -> Task:
        def run() -> None:
            with self._lock:
                self._now += 1
                self.most = max(self.most, self._now)
            time.sleep(seconds)
            with self._lock:
                self._now -= 1
                if error is None:
                    self.done.append(name)
            if error is not None:
                raise error

        return Task(run, frozenset(after))


def test_what_comes_first_is_done_before() -> None:
    work = Work()
    tasks = {
        "image": work.task("image", "base", seconds=0.3),
        "other": work.task("other", "base", seconds=0.3),
        "base": work.task("base", "root"),
        "root": work.task("root"),
    }
    run_in_order(tasks, 2)
    assert work.done[:2] == ["root", "base"]
    assert sorted(work.done[2:]) == ["image", "other"]
    assert work.most == 2


def test_the_longest_row_begins_first() -> None:
    work = Work()
    tasks = {name: work.task(name) for name in ("a", "base", "common")}
    tasks |= {name: work.task(name, "common") for name in ("x", "y", "z")}
    tasks |= {"image": work.task("image", "base"), "baked": work.task("baked", "image")}
    run_in_order(tasks, 1)
    assert work.done[0] == "base"
    assert work.done.index("common") < work.done.index("a")


def test_no_more_at_a_time_than_workers() -> None:
    work = Work()
    run_in_order({str(number): work.task(str(number)) for number in range(9)}, 3)
    assert len(work.done) == 9
    assert work.most == 3


def test_after_a_failure_nothing_begins_and_what_runs_comes_to_its_end() -> None:
    work = Work()
    tasks = {
        "a": work.task("a", error=OperatorError("broken", code="E514")),
        "b": work.task("b", seconds=0.1),
        "c": work.task("c"),
        "d": work.task("d", "a"),
    }
    with pytest.raises(OperatorError, match="broken"):
        run_in_order(tasks, 2)
    assert work.done == ["b"]


def test_all_that_failed_is_told_and_the_same_once() -> None:
    work = Work()
    lost, moved = OperatorError("no network", code="E515"), OperatorError("gone", code="E513")
    for errors, codes in (((lost, moved), ["E513", "E515"]), ((lost, lost), ["E515"])):
        with pytest.raises(OperatorError) as failure:
            run_in_order(
                {str(index): work.task(str(index), error=each) for index, each in enumerate(errors)}, 2
            )
        assert sorted(problem.code for problem in failure.value.problems) == codes


def test_a_mistake_of_ours_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        run_in_order({"a": Task(lambda: print(1 // 0))}, 2)


def test_an_interruption_does_not_wait() -> None:
    work = Work()
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_in_order({"long": work.task("long", seconds=5)}, 2)
    assert time.monotonic() - began < 2
