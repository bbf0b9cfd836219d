"""The lease and the API's bad moments: lost answers, no leader, a holder that lives, one that does not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubernetes_formula.manifests import Overlay
from kubernetes_formula.rollout import Cluster, Records
from kubernetes_formula.rollout.cluster import Refused, _refusal
from kubernetes_formula.rollout.lease import NAME, Lease
from kubernetes_formula.rollout.record import NAMESPACE, begin
from reclass_model.errors import OperatorError
from tests.unit.api_server import LOST, Server, connect, serving

LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as found:
        yield found


@pytest.fixture
def cluster(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr("kubernetes_formula.rollout.cluster._RETRY_SECONDS", 0.05)
    return connect(server, tmp_path)


def wait_until(done: Any) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_without_a_leader_for_a_moment_is_asked_again(
    server: Server, cluster: Cluster, status: int
) -> None:
    server.troubles = [("GET", status), ("GET", status)]
    assert cluster.get("Lease", NAMESPACE, NAME) is None


def test_what_does_not_pass_is_told_in_the_servers_words(server: Server, cluster: Cluster) -> None:
    server.troubles = [("GET", 403)]
    with pytest.raises(Refused) as caught:
        cluster.get("Lease", NAMESPACE, NAME)
    assert caught.value.status == 403


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_lost_answer_does_not_lose_the_lease(server: Server, cluster: Cluster, method: str) -> None:
    if method == "POST":
        server.troubles = [("POST", LOST)]
    with Lease(cluster, seconds=1) as lease:
        if method == "PUT":
            server.troubles = [("PUT", LOST)]
        wait_until(lambda: server.version >= 4)
        assert not server.troubles
        lease.check()
    assert not server.objects


def test_an_api_that_was_away_for_longer_than_the_lease_does_not_lose_it(
    server: Server, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubernetes_formula.rollout.cluster._LAST_WORDS_SECONDS", 0.0)
    with Lease(cluster, seconds=1) as lease:
        server.troubles = [("PUT", 503)] * 8
        wait_until(lambda: not server.troubles)
        lease.check()
        assert lease.held


def test_somebody_elses_lease_is_neither_renewed_nor_deleted(server: Server, cluster: Cluster) -> None:
    with Lease(cluster, seconds=1) as lease:
        path = f"{LEASES}/{NAME}"
        theirs = json.loads(json.dumps(server.objects[path]))
        theirs["spec"]["holderIdentity"] = "ops@desk 0 1"
        del theirs["metadata"]["resourceVersion"]
        server.do("PUT", path, theirs)
        wait_until(lambda: not lease.held)
        with pytest.raises(OperatorError, match="was lost") as caught:
            lease.check()
        assert caught.value.code == "E651"
    assert server.objects[path]["spec"]["holderIdentity"] == "ops@desk 0 1"


def test_a_lease_written_by_another_at_the_end_is_left_alone(server: Server, cluster: Cluster) -> None:
    path = f"{LEASES}/{NAME}"
    with Lease(cluster, seconds=60):
        theirs = json.loads(json.dumps(server.objects[path]))
        del theirs["metadata"]["resourceVersion"]
        server.do("PUT", path, theirs)
    assert path in server.objects


@pytest.mark.parametrize("alive", [True, False])
def test_a_holder_whose_clock_is_another_is_looked_at_twice(
    server: Server, cluster: Cluster, alive: bool
) -> None:
    """Its last renewal lies in the past of this clock: it may be dead, or its clock behind."""
    spec = {"holderIdentity": "ops@desk 0 1", "leaseDurationSeconds": 1}
    past = {**spec, "renewTime": "2026-01-01T00:00:00.000000Z"}
    cluster.create({"kind": "Lease", "metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": past})
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.2):
            server.do("PUT", f"{LEASES}/{NAME}", {"metadata": {"name": NAME}, "spec": past})

    other = threading.Thread(target=renew)
    if alive:
        other.start()
        with pytest.raises(OperatorError, match="another rollout is running: ops@desk"), Lease(cluster, 1):
            pass
        stop.set()
        other.join()
    else:
        with Lease(cluster, 1) as lease:
            lease.check()


def test_an_interrupted_rollout_does_not_wait_for_an_api_that_is_away(
    server: Server, cluster: Cluster
) -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Lease(cluster, seconds=60):
        server.troubles = [("DELETE", 503)] * 1000
        raise KeyboardInterrupt
    assert time.monotonic() - began < 4


def test_the_latest_record_is_the_one_that_the_server_took_last(server: Server, cluster: Cluster) -> None:
    """Records are named by the clock of whoever deploys; that one may be behind."""
    records = Records(cluster)
    record = begin("deploy", "one", Overlay(), None, ())
    records.save(replace(record, id="20261126t120500000-aaaa"))
    records.save(replace(record, id="20261126t120300000-bbbb", revision="two"))
    latest = records.latest()
    assert latest and latest.revision == "two"
    assert [name[:15] for name in records.identities()] == ["20261126t120500", "20261126t120300"]


def test_what_was_deployed_before_a_rollout_is_what_had_ended_then(server: Server, cluster: Cluster) -> None:
    records = Records(cluster)
    record = begin("deploy", "one", Overlay(), None, ())
    for number, state in enumerate(("done", "failed", "done")):
        records.save(replace(record, id=f"{number}", revision=f"r{number}", state=state))
    first, failed, last = (records.find(identity) for identity in records.identities())
    assert first and failed and last and records.before(first) is None
    assert records.before(failed) == records.before(last) == first


def test_the_way_back_is_not_forgotten_however_many_deploys_failed_since(
    server: Server, cluster: Cluster
) -> None:
    records = Records(cluster)
    record = begin("deploy", "one", Overlay(), None, ())
    for number in range(14):
        records.save(replace(record, id=f"{number:02}"))
    records.forget_old("01")
    assert records.identities() == ["01", *(f"{number:02}" for number in range(4, 14))]


@pytest.mark.parametrize(
    ("causes", "immutable"),
    [
        (["Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden"], True),
        (['Invalid value: "b": field is immutable', 'Invalid value: "Parallel": field is immutable'], True),
        (['Invalid value: "b": field is immutable', "Required value"], False),
        (["Required value"], False),
    ],
)
def test_an_object_is_made_anew_only_where_its_change_is_all_that_is_wrong(
    causes: list[str], immutable: bool
) -> None:
    message = f"StatefulSet.apps is invalid: [{', '.join(causes)}]"
    status = {"message": message, "details": {"causes": [{"message": cause} for cause in causes]}}
    assert _refusal("PATCH", "/x", 422, json.dumps(status).encode()).immutable is immutable
    assert not _refusal("PATCH", "/x", 409, json.dumps(status).encode()).immutable
