"""Speed as ratios against a peer in the same run, so that the machine does not matter; printed as a table."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reclass_model import generate, nodes
from reclass_model.repository import Repository, write_atomically

MACHINES = int(os.environ.get("OSTACK_K8S_BENCH_MACHINES", "1000"))  # the limits are meant for 1 000
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Measure:
    """One row of the table."""

    what: str
    ours: str
    peer: str
    value: float
    limit: float
    unit: str  # "×" for a ratio, else of the value


MEASURES = pytest.StashKey[list[Measure]]()


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Enter a row into the table and fail when it is over its limit."""
    rows = request.config.stash.setdefault(MEASURES, [])

    def enter(
        what: str,
        *,
        limit: float,
        value: float = 0.0,
        unit: str = "×",
        times: tuple[float, float] | None = None,
    ) -> None:
        if times:
            value = times[0] / times[1]
        ours, peer = (f"{time * 1000:.0f} ms" for time in times) if times else ("", "")
        rows.append(Measure(what, ours, peer, value, limit, unit))
        assert value <= limit, f"{what}: {value:.2f} {unit}, at most {limit} {unit}"

    return enter


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(MEASURES, [])
    if not rows:
        return
    terminalreporter.section("speed")
    terminalreporter.write_line(f"{'what':<52}{'ours':>12}{'peer':>12}{'':>12}{'limit':>10}")
    for row in rows:
        value, limit = f"{row.value:.2f} {row.unit}", f"{row.limit:g} {row.unit}"
        mark = "" if row.value <= row.limit else "  over"
        terminalreporter.write_line(f"{row.what:<52}{row.ours:>12}{row.peer:>12}{value:>12}{limit:>10}{mark}")


def seconds(work: Callable[[], object], repeat: int = 1) -> float:
    """The shortest of `repeat` runs, in seconds: what the machine can do when nothing else disturbs it."""
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def compare(ours: Callable[[], object], peer: Callable[[], object], repeat: int) -> tuple[float, float]:
    """The shortest run of each, in seconds; taken in turns, so that other load meets both."""
    times = [(seconds(ours), seconds(peer)) for _ in range(repeat)]
    return min(time for time, _ in times), min(time for _, time in times)


def process(*call: str | Path, cwd: Path | None = None) -> Callable[[], object]:
    """A process to time; its output is thrown away, a failure is an error."""
    return lambda: subprocess.run([*map(str, call)], cwd=cwd, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """The default cloud, as `init` writes it."""
    top = tmp_path_factory.mktemp("cloud")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSTACK_K8S_IDENTITY_DIR", str(top / "identity"))
        answers = generate.Answers.of({"cluster_name": "bench"})
        generate.create(answers, top / "bench", top / "identity", lambda line: None)
        yield Repository(top / "bench")


@pytest.fixture(scope="session")
def large(cloud: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The same cloud with compute machines added until it has a thousand machines."""
    root = tmp_path_factory.mktemp("large") / "bench"
    shutil.copytree(cloud.root, root)
    repository = Repository(root)
    role = "kube_compute"
    machines = [
        nodes.Machine(f"cmp{number:04}.bench.local", f"10.{20 + number // 250}.{number % 250}.9", (role,))
        for number in range(MACHINES - len(repository.node_names()))
    ]
    for machine in machines:
        write_atomically(repository.node_file(machine.name), nodes.node_file(machine, "bench"))
        write_atomically(repository.pki_dir / f"{machine.name}.yml", "parameters: {}\n")

    nodes.edit(
        nodes.members_file(repository),
        lambda document: [nodes.join(document["parameters"], machine) for machine in machines],
    )
    return repository
