"""A machine that runs pods notes on its Node what is applied; a run that changes nothing asks and leaves it."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

from kubernetes_formula.salt_loader import FORMULA

DIGEST = {"ostack-k8s.io/applied": "0123456789ab"}


class Api:
    """kubectl with one Node behind it, or none."""

    def __init__(self, node: dict[str, Any] | None) -> None:
        self.node = node

    def run(self, _kubeconfig: str, verb: str, *arguments: str) -> dict[str, Any]:
        if self.node is None:
            return {"retcode": 1, "stdout": "", "stderr": "not found"}
        if verb == "patch":
            self.node["metadata"].setdefault("annotations", {}).update(
                json.loads(arguments[-1])["metadata"]["annotations"]
            )
        return {"retcode": 0, "stdout": json.dumps(self.node), "stderr": ""}


def noted(api: Api, *, test: bool) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("kubernetes_node", FORMULA / "_states/kubernetes_node.py")
    assert spec is not None and spec.loader is not None
    state = importlib.util.module_from_spec(spec)
    state.__dict__.update(__opts__={"test": test}, __salt__={"kubectl.run": api.run})
    spec.loader.exec_module(state)
    answer: dict[str, Any] = state.noted("ctl01", DIGEST, timeout=0)
    return answer


def test_it_is_noted_once() -> None:
    api = Api({"metadata": {"annotations": {"other": "kept"}}})
    planned, done = noted(api, test=True), noted(api, test=False)
    assert planned["result"] is None and done["result"] is True
    assert planned["changes"] == done["changes"] != {}
    assert api.node == {"metadata": {"annotations": {"other": "kept", **DIGEST}}}
    for test in (True, False):
        again = noted(api, test=test)
        assert again["result"] is True and not again["changes"]


def test_a_machine_without_a_cluster_is_no_error() -> None:
    assert noted(Api(None), test=True)["result"] is None
    done = noted(Api(None), test=False)
    assert done["result"] is True and not done["changes"] and "has not joined" in done["comment"]
