"""The class library: what it says of releases and services, and that a service is YAML alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from reclass_model import generate, library
from reclass_model.generate import Answers
from reclass_model.inventory import Inventory, get
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring, set_secret
from reclass_model.validation import validate

LEDGER = Path(__file__).parent / "ledger.yml"
SCHEMAS = sorted(library.CLASSES.rglob("schema.json"))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A cloud of the default topology; tests that change it restore it."""
    place = tmp_path_factory.mktemp("cloud")
    answers = Answers.of({"cluster_name": "demo", "services": "identity"})
    return Repository(generate.create(answers, place / "demo", place / "identity", lambda line: None).path)


def run(repository: Repository, *arguments: str) -> Any:
    command = [sys.executable, "-c", "from cli.main import main; main()", "-C", str(repository.root)]
    done = subprocess.run([*command, *arguments, "-o", "json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def git(repository: Repository, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=repository.root, check=True)


def test_a_new_cloud_is_valid(cloud: Repository) -> None:
    assert validate(cloud).errors == []


def test_a_release_is_one_line(cloud: Repository) -> None:
    init = cloud.cluster_dir / "init.yml"
    before = init.read_text()
    old = Inventory(cloud).config_node().parameters
    init.write_text(before.replace("openstack_version: epoxy", "openstack_version: gazpacho"))
    new = Inventory(cloud).config_node().parameters
    init.write_text(before)
    assert [get(each, "keystone:server:image:suite") for each in (old, new)] == ["trixie", "forky"]
    assert get(new, "keystone:server:image:packages:keystone:version") != get(
        old, "keystone:server:image:packages:keystone:version"
    )
    for infrastructure in ("mariadb", "memcached"):
        assert old[infrastructure] == new[infrastructure]
    assert get(old, "kubernetes:control") == get(new, "kubernetes:control")


def test_releases_lead_to_each_other(cloud: Repository) -> None:
    releases = get(Inventory(cloud).config_node().parameters, "openstack:release")
    assert "epoxy" in releases["gazpacho"]["upgrade_from"]
    assert releases["epoxy"]["order"] < releases["gazpacho"]["order"]


def test_no_password_stands_in_a_command(cloud: Repository) -> None:
    parameters = Inventory(cloud).config_node().parameters
    for workload in get(parameters, "kubernetes:control:workload").values():
        for described in (*workload["container"].values(), *workload.get("job", {}).values()):
            assert "age:" not in described.get("command", "")
        assert "age:" not in str(workload.get("environment", {}))


def test_what_pods_mount_is_a_directory_of_the_control_machines(cloud: Repository) -> None:
    inventory = Inventory(cloud)
    workloads = get(inventory.config_node().parameters, "kubernetes:control:workload").values()
    volumes = [
        volume
        for workload in workloads
        for described in (workload, *workload.get("job", {}).values())
        for volume in described.get("volume", {}).values()
    ]
    mounted = {volume["path"] for volume in volumes if volume["type"] in ("local", "shared")}
    directories = get(inventory.node("ctl01.demo.local").parameters, "kubernetes:pool:directory")
    assert mounted <= directories.keys()


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: str(path.parent.name))
def test_schemas_are_schemas_and_explain_every_key(path: Path) -> None:
    schema = json.loads(path.read_text())
    Draft202012Validator.check_schema(schema)
    assert schema["x-pillar-path"] and schema["x-consumer"]

    def unexplained(part: dict[str, Any], where: str) -> list[str]:
        found = []
        for key, value in part.get("properties", {}).items():
            if "description" not in value and "properties" not in value:
                found.append(f"{where}:{key}")
            found += unexplained(value, f"{where}:{key}")
        return found

    if path.is_relative_to(library.CLASSES):
        assert unexplained(schema, schema["x-pillar-path"]) == []


def test_no_python_names_a_service() -> None:
    """All knowledge of services is YAML: a new one is never a change of code."""
    described = "\n".join(path.read_text() for path in library.CLASSES.rglob("*.yml"))
    services = set(re.findall(r"^ *service: ([a-z]+)$", described, re.MULTILINE))
    assert {"keystone", "mariadb"} <= services
    named = re.compile(rf"\b({'|'.join(sorted(services))})", re.IGNORECASE)
    root = Path(__file__).parents[2]
    packages = ("cli", "kubernetes_formula", "openstack_images", "reclass_model")
    found = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if named.search(line)
    ]
    assert found == []


def test_a_service_stays_short() -> None:
    lines = (library.CLASSES / "keystone" / "server.yml").read_text().splitlines()
    assert len(lines) <= 150
    assert len(LEDGER.read_text().splitlines()) <= 60


def test_a_service_is_yaml_alone(cloud: Repository) -> None:
    """A made-up service gets its image, manifests, compose file and plan; no Python knows it."""
    overlay = cloud.cluster_dir / "overlay"
    (overlay / "ledger.yml").write_text(LEDGER.read_text())
    init = overlay / "init.yml"
    init.write_text(
        init.read_text().replace(
            "- cluster.demo.secrets", "- cluster.demo.overlay.ledger\n- cluster.demo.secrets"
        )
    )
    set_secret(cloud, Keyring.find(cloud), "ledger_database_password", "not for everybody")
    git(cloud, "add", ".")
    git(cloud, "commit", "--quiet", "-m", "A service of our own")
    try:
        assert validate(cloud).errors == []

        images = {image["name"]: image for image in run(cloud, "images", "list")["images"]}
        assert images["ledger-api"]["release"] == "epoxy"
        assert images["ledger-api"]["reference"].startswith("cfg01.demo.local:5000/ledger-api:epoxy-")

        items = run(cloud, "manifests")["items"]
        mine = {item["kind"] for item in items if item["metadata"]["name"].startswith("ledger-api")}
        assert {"Deployment", "Service", "Secret"} <= mine

        services = run(cloud, "compose", "render")["services"]
        assert any(name.startswith("ledger-api") for name in services)

        plan = run(cloud, "plan", "--from", "HEAD~1")
        changed = [image["name"] for image in plan["images"] if image.get("action") != "reuse"]
        assert changed == ["haproxy-edge", "ledger-api"]
        assert {change["name"] for change in plan["objects"]} >= {"ledger-api"}
        assert {step["name"] for step in plan["steps"] if step["workload"] not in ("ledger-api", "")} == {
            "haproxy-edge roll",
            "mariadb-server users",
        }
        assert plan["nodes"] == []
    finally:
        git(cloud, "reset", "--quiet", "--hard", "HEAD~1")
