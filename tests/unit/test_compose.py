"""The same services by Docker Compose: what their processes see is what they see in a pod; up, status and down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.workflows import compose as workflow
from cli.workflows.overlay import control_of, overlay_of, pod_images_of
from kubernetes_formula.manifests import Image, Overlay, compose, left_out, render, secret_files
from reclass_model import generate
from reclass_model.errors import OperatorError
from reclass_model.inventory import Inventory, get
from reclass_model.repository import Repository
from reclass_model.secrets import TOKEN, Keyring

PILLAR = Path(__file__).parents[1] / "golden/manifests/pillar.yml"
API, DATABASE = "keystone-server", "mariadb-server"
ENDED, HEALTHY = {"condition": "service_completed_successfully"}, {"condition": "service_healthy"}


def reveal(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reveal(each) for name, each in value.items()}
    return TOKEN.sub("opened", value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Rendered:
    """One model, both ways."""

    overlay: Overlay
    file: dict[str, Any]
    secrets: dict[str, str]
    absent: list[str]


@pytest.fixture
def pillar() -> Any:
    """Beside what the golden pillar has: several containers, one that comes before, one for each machine."""
    found = yaml.safe_load(PILLAR.read_text())
    workloads = found["control"]["workload"]
    workloads["worker"] = {
        "service": "worker", "role": "server", "kind": "Deployment", "image": "keystone:server",
        "container": {
            "api": {"command": "serve --name '$HOME'", "ports": {"api": {"port": 80, "node_port": 30080}}},
            "a-helper": {"command": "help"},
        },
        "init_container": {"second": {"command": "two", "order": 2}, "first": {"command": "one", "order": 1}},
        "environment": {"POD": {"field": "metadata.name"}, "MONEY": "$5", "YES": True},
        "volume": {"run": {"mount": "/run/worker", "type": "emptyDir"}},
        "upgrade": {"after": {API: {}, "agent": {}}},
    }  # fmt: skip
    workloads["agent"] = {
        "service": "agent", "role": "node", "kind": "DaemonSet", "image": "keystone:server",
        "container": {"agent": {"command": "watch"}}, "job": {"find": {"phase": "bootstrap", "command": "find"}},
    }  # fmt: skip
    workloads[API]["job"]["roles"] = {"phase": "configure", "command": "roles"}
    return found


def images_of(pillar: Any) -> dict[str, Image]:
    return {name: Image(**image) for name, image in pillar["images"].items()}


def file_of(pillar: Any) -> dict[str, Any]:
    return compose(pillar["control"], images_of(pillar), reveal)


def of_pillar(pillar: Any) -> Rendered:
    control, images = pillar["control"], images_of(pillar)
    return Rendered(
        render(control, images, reveal),
        compose(control, images, reveal),
        secret_files(control, images, reveal),
        left_out(control),
    )


def of_library(place: Path) -> Rendered:
    """Everything that the class library has, on one machine."""
    answers = generate.Answers.of({"cluster_name": "one", "all_in_one": True, "services": "all"})
    repository = Repository(
        generate.create(answers, place / "one", place / "identity", lambda line: None).path
    )
    inventory = workflow.here(Inventory(repository))
    keyring = Keyring(place / "identity" / "operator.age")
    control, images = control_of(inventory), pod_images_of(inventory)
    return Rendered(
        overlay_of(inventory, keyring),
        workflow.rendered(inventory, keyring),
        secret_files(control, images, keyring.reveal),
        left_out(control),
    )


def pods(rendered: Rendered) -> Iterator[tuple[str, dict[str, Any]]]:
    """Workload or Job → the spec of its pods, of all that runs with Compose too."""
    for item in rendered.overlay.objects:
        name = item["metadata"]["name"]
        if item["kind"] in ("Deployment", "StatefulSet") and name not in rendered.absent:
            yield item["metadata"]["labels"]["app"], item["spec"]["template"]["spec"]
    for phase in ("bootstrap", "configure"):
        for job in rendered.overlay.jobs.get(phase, ()):
            if job.workload not in rendered.absent:
                yield f"{job.workload}-{job.name}", job.object["spec"]["template"]["spec"]


def unescaped(text: str) -> str:
    return text.replace("$$", "$")


@pytest.mark.parametrize("model", ["library", "pillar"])
def test_a_process_sees_what_it_sees_in_its_pod(model: str, pillar: Any, tmp_path: Path) -> None:
    rendered = of_library(tmp_path) if model == "library" else of_pillar(pillar)
    opened = {
        item["metadata"]["name"]: item["stringData"]
        for item in rendered.overlay.objects
        if item["kind"] == "Secret"
    }
    seen = set()
    for name, pod in pods(rendered):
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        whole = [*pod["containers"], *pod.get("initContainers", [])]
        for container in whole:
            service_name = name if len(pod["containers"]) == 1 else f"{name}-{container['name']}"
            service = rendered.file["services"][service_name]
            seen.add(service_name)
            assert service["image"] == container["image"]
            assert [unescaped(word) for word in service.get("command", [])] == container.get("args", [])
            user, group = (pod["securityContext"].get(key) for key in ("runAsUser", "runAsGroup"))
            assert service.get("user") == (f"{user}:{group}" if user is not None else None)
            security = container["securityContext"]
            assert service["read_only"] == security["readOnlyRootFilesystem"]
            assert service.get("cap_add", []) == security.get("capabilities", {}).get("add", [])
            assert service["cap_drop"] == ["ALL"]

            variables = {}
            for variable in container.get("env", []):
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    variables[variable["name"]] = opened[reference["name"]][reference["key"]]
                elif "valueFrom" in variable:  # a field of the pod: another one there
                    variables[variable["name"]] = unescaped(service["environment"][variable["name"]])
                elif variable["name"] != "EXTRA":  # a patch, which Compose does not see
                    variables[variable["name"]] = variable["value"]
            assert {key: unescaped(value) for key, value in service["environment"].items()} == variables

            files = {}
            mounts = set()
            for mount in container.get("volumeMounts", []):
                volume = volumes.get(mount["name"], {})
                if "secret" in volume:
                    files[mount["mountPath"]] = opened[volume["secret"]["secretName"]][mount["subPath"]]
                else:
                    mounts.add(mount["mountPath"])
            paths = {entry["target"]: entry["source"] for entry in service.get("secrets", [])}
            sources = {
                name: entry["file"].removeprefix("./") for name, entry in rendered.file["secrets"].items()
            }
            assert {path: rendered.secrets[sources[source]] for path, source in paths.items()} == files
            own = {entry.partition(":")[0] for entry in service.get("tmpfs", [])}
            assert {volume["target"] for volume in service.get("volumes", [])} | own == mounts
    assert seen == set(rendered.file["services"]) - {"volume-owners"}


def test_a_job_waits_for_the_one_before_and_a_service_for_its_last(pillar: Any) -> None:
    services = file_of(pillar)["services"]
    waits = {name: service.get("depends_on", {}) for name, service in services.items()}
    database = {DATABASE: HEALTHY, f"{DATABASE}-users": ENDED}
    assert waits[f"{DATABASE}-users"] == {DATABASE: HEALTHY}
    assert waits[f"{API}-database"] == database
    assert waits[f"{API}-db-sync"] == {**database, f"{API}-database": ENDED, "volume-owners": ENDED}
    assert waits[API] == {**database, f"{API}-db-sync": ENDED, "volume-owners": ENDED}
    assert waits[f"{API}-roles"] == {API: HEALTHY, "volume-owners": ENDED}
    assert waits["worker-first"] == {API: HEALTHY, f"{API}-roles": ENDED, "volume-owners": ENDED}
    assert waits["worker-second"] == {**waits["worker-first"], "worker-first": ENDED}
    assert waits["worker-api"] == {**waits["worker-second"], "worker-second": ENDED}
    restarts = [services[name]["restart"] for name in ("worker-first", f"{API}-roles", API)]
    assert restarts == ["on-failure:3", "on-failure:3", "unless-stopped"]


def test_each_start_is_a_first_one_and_a_job_may_have_an_order_of_its_own(pillar: Any) -> None:
    workloads = pillar["control"]["workload"]
    workloads["worker"]["upgrade"]["after"] = {
        API: {"at_first": "bootstrap"},
        DATABASE: {"at_first": "nothing"},
    }
    workloads["worker"]["job"] = {"sync": {"phase": "bootstrap", "command": "sync", "after": {DATABASE: {}}}}
    services = file_of(pillar)["services"]
    waits = {
        name: set(services[name]["depends_on"]) - {"volume-owners"} for name in services if "worker" in name
    }
    assert waits["worker-sync"] == {DATABASE, f"{DATABASE}-users"}
    assert waits["worker-first"] == {f"{API}-db-sync", "worker-sync"}


def test_containers_of_a_pod_share_a_network_and_their_volumes(pillar: Any) -> None:
    file = file_of(pillar)
    api, helper, first = (file["services"][f"worker-{name}"] for name in ("api", "a-helper", "first"))
    assert helper["network_mode"] == "service:worker-api" and "networks" not in helper
    assert api["networks"]["default"]["aliases"] == ["worker", "worker.openstack.svc.cluster.local"]
    assert api["ports"] == ["127.0.0.1:30080:80"]
    assert api["volumes"] == helper["volumes"] == first["volumes"]
    assert api["volumes"][0]["source"] == "worker-run" and "worker-run" in file["volumes"]
    assert "chown 42421:42421 /volume/worker-run" in file["services"]["volume-owners"]["command"][0]
    assert api["command"] == ["serve", "--name", "$$HOME"] and api["environment"]["MONEY"] == "$$5"


def test_each_runs_once_and_a_stateful_one_has_its_pods_names(pillar: Any) -> None:
    pillar["control"]["workload"][DATABASE]["peers"] = True
    file = file_of(pillar)
    assert not any("deploy" in service for service in file["services"].values())
    assert not any(name.startswith("agent") for name in file["services"]), "a machine's own"
    service = file["services"][DATABASE]
    assert service["hostname"] == "mariadb-server-0"
    assert service["networks"]["default"]["aliases"] == [
        DATABASE,
        "mariadb-server.openstack.svc.cluster.local",
        "mariadb-server-0",
        "mariadb-server-0.mariadb-server-peers",
        "mariadb-server-0.mariadb-server-peers.openstack.svc.cluster.local",
    ]


def test_secrets_are_masked_unless_they_are_opened(pillar: Any) -> None:
    masked = compose(pillar["control"], images_of(pillar))
    assert masked["services"][f"{API}-database"]["environment"]["MYSQL_PWD"] == "***"
    assert file_of(pillar)["services"][f"{API}-database"]["environment"]["MYSQL_PWD"] == "opened"


# --- the programs ---

CONTAINERS = [
    ("api", {"Status": "running", "ExitCode": 0, "Health": {"Status": "healthy"}}, "unless-stopped", 2, "healthy"),
    ("slow", {"Status": "running", "ExitCode": 0, "Health": {"Status": "starting"}}, "unless-stopped", 0, "starting"),
    ("worker", {"Status": "running", "ExitCode": 0}, "unless-stopped", 0, "running"),
    ("job", {"Status": "exited", "ExitCode": 0}, "on-failure", 0, "done"),
    ("long-job", {"Status": "running", "ExitCode": 0}, "on-failure", 0, "working"),
    ("bad-job", {"Status": "exited", "ExitCode": 3}, "on-failure", 0, "failed"),
    ("gone", {"Status": "exited", "ExitCode": 0}, "unless-stopped", 0, "stopped"),
    ("crashes", {"Status": "restarting", "ExitCode": 1}, "unless-stopped", 7, "failed"),
    ("again", {"Status": "restarting", "ExitCode": 1}, "unless-stopped", 1, "restarting"),
    ("new", {"Status": "created", "ExitCode": 0}, "unless-stopped", 0, "created"),
]  # fmt: skip


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory of programs."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", f"{place}:/bin")
    workflow.compose_program.cache_clear()
    yield place
    workflow.compose_program.cache_clear()


def program(place: Path, name: str, script: str) -> None:
    (place / name).write_text(f"#!/bin/sh\n{script}\n")
    (place / name).chmod(0o755)


def test_a_containers_state_is_one_word(programs: Path, tmp_path: Path) -> None:
    inspected = [
        {
            "Id": name,
            "State": {"StartedAt": "2026-11-26T12:00:00.1Z", "FinishedAt": "2026-11-26T12:00:09.1Z", **state},
            "RestartCount": restarts,
            "HostConfig": {"RestartPolicy": {"Name": policy}},
            "Config": {"Labels": {"com.docker.compose.service": name}},
        }
        for name, state, policy, restarts, _ in CONTAINERS
    ]
    (tmp_path / "inspected").write_text(json.dumps(inspected))
    program(programs, "docker", f'[ "$1" = ps ] && echo a b || {{ cat {tmp_path}/inspected; exit 1; }}')
    found = {service.name: service.state for service in workflow.services(tmp_path)}
    assert found == {name: word for name, *_, word in CONTAINERS}


@pytest.mark.parametrize(
    ("docker", "said"), [(None, "docker is not installed"), ("exit 1", "Docker Compose is not installed")]
)
def test_it_says_what_to_install(
    docker: str | None, said: str, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(programs))
    if docker:
        program(programs, "docker", docker)
    with pytest.raises(OperatorError, match=said) as caught:
        workflow.compose_program()
    assert "docker-compose-plugin" in (caught.value.problems[0].hint or "")


def test_either_program_will_do(programs: Path) -> None:
    program(programs, "docker", "exit 1")
    program(programs, "docker-compose", "exit 0")
    assert workflow.compose_program() == ("docker-compose",)
    workflow.compose_program.cache_clear()
    program(programs, "docker", "exit 0")
    assert workflow.compose_program() == ("docker", "compose")


def test_what_is_written_is_closed_to_others_and_down_removes_it(
    repository: Repository, programs: Path
) -> None:
    inventory = workflow.here(Inventory(repository))
    keyring = Keyring.find(repository)
    directory = workflow.write(inventory, keyring)
    modes = {
        str(path.relative_to(directory)): path.stat().st_mode & 0o777
        for path in directory.rglob("*")
        if path.is_file()
    }
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {modes[name] for name in ("compose.yml", "clouds.yaml", "openrc", "ca.pem")} == {0o600}
    assert {mode for name, mode in modes.items() if name.startswith("secret/")} == {0o444}
    password = keyring.reveal(get(inventory.config_node().parameters, "_param:mariadb_root_password"))
    assert password in (directory / "compose.yml").read_text()
    assert "https://127.0.0.1:30500/v3" in (directory / "clouds.yaml").read_text()
    services = yaml.safe_load((directory / "compose.yml").read_text())["services"]
    assert services[DATABASE]["environment"]["REPLICAS"] == "1", "of a cloud that has three"

    program(programs, "docker", f'echo "$@" >> {programs}/asked')
    workflow.down(inventory, volumes=True)
    assert not directory.exists()
    asked = (programs / "asked").read_text().splitlines()[-1]
    assert asked.endswith("down --remove-orphans --volumes") and "--project-name ostack-k8s-demo" in asked

    workflow.down(inventory, volumes=False)  # again: nothing minds
    program(programs, "docker", '[ "$1" = version ] || [ "$2" = version ] || { echo no room; exit 1; }')
    with pytest.raises(OperatorError, match="no room"):
        workflow.down(inventory, volumes=False)
