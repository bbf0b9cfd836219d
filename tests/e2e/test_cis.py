"""The CIS Kubernetes Benchmark held against the lab's machine: each control of cis.yml is one test."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Cloud

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

CONTROLS: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("cis.yml").read_text())[
    "controls"
]

#: What the checks of cis.yml say.
WORDS = """
set -e
export KUBECONFIG=/etc/kubernetes/admin.kubeconfig
# a program's arguments, one a line
program() { tr '\\0' '\\n' < "/proc/$(pgrep -o -f "^/usr/local/bin/$1 ")/cmdline"; }
# flag PROGRAM NAME: its value
flag() { program "$1" | sed -n "s/^--$2=//p" | grep .; }
# mode MOST FILE...: they have no right beyond MOST
mode() {
  most=$1; shift
  for file; do
    test -e "$file" || { echo "$file is not there"; return 1; }
    has=$(stat -L -c %a "$file")
    test $((0$has & ~0$most)) = 0 || { echo "$file is $has"; return 1; }
  done
}
# owner USER:GROUP FILE...
owner() {
  who=$1; shift
  for file; do
    has=$(stat -L -c %U:%G "$file")
    test "$has" = "$who" || { echo "$file is $has's"; return 1; }
  done
}
# answer PATH [PORT]: the status that somebody without credentials gets
answer() { curl --silent --insecure --output /dev/null --write-out '%{http_code}' "https://127.0.0.1:${2:-6443}$1"; }
# setting A.B: what the kubelet runs with
setting() {
  kubectl get --raw "/api/v1/nodes/$(hostname)/proxy/configz" | python3 -c '
import json, sys
value = json.load(sys.stdin)["kubeletconfig"]
for key in sys.argv[1].split("."):
    value = value.get(key, "") if isinstance(value, dict) else ""
print(value if isinstance(value, str) else json.dumps(value))' "$1"
}
"""


@pytest.fixture(scope="module")
def inside(cloud: Cloud) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a check on the machine."""
    name = f"e2e-{cloud.node.partition('.')[0]}"

    def run(check: str) -> subprocess.CompletedProcess[str]:
        command = ["docker", "exec", name, "bash", "-c", WORDS + check]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def _title(number: str) -> str:
    return f"{number} {CONTROLS[number]['what']}"


@pytest.mark.parametrize("number", CONTROLS, ids=_title)
def test_control(number: str, inside: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    done = inside(CONTROLS[number]["check"])
    assert done.returncode == 0, f"{CONTROLS[number]['what']}: {done.stdout}{done.stderr}"
