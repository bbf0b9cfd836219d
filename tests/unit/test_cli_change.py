"""The life of a change on a real generated model, through the command line: plan, manifests, pipeline, report."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.commands.pki import compare
from cli.main import main
from cli.workflows import deployment, live, pipeline
from kubernetes_formula import rollout
from reclass_model import pki
from reclass_model.inventory import Inventory
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring

Run = Callable[..., Any]
CLUSTER = "classes/cluster/demo"


@pytest.fixture
def run(repository: Repository, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with `-o json`: its data, after its exit code was checked."""

    def call(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(["-C", str(repository.root), "-o", "json", *arguments])
        captured = capsys.readouterr()
        assert left.value.code == code, captured.err
        return json.loads(captured.out) if captured.out else captured.err

    return call


def change(repository: Repository, file: str, before: str, after: str) -> str:
    """Edit one place of the model and commit; the commit."""
    path = repository.root / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    return repository.commit("a change", [path])


def test_changing_nothing_plans_nothing(repository: Repository, run: Run) -> None:
    plan = run("plan", "--from", "HEAD", "--detailed-exitcode")
    assert not any(plan[key] for key in ("values", "images", "objects", "pods", "nodes", "steps"))
    assert plan["impact"] == "none"


def test_a_static_option_bakes_one_image_and_rolls_one_deployment(repository: Repository, run: Run) -> None:
    change(repository, f"{CLUSTER}/overlay/keystone.yml", "expiration: 3600", "expiration: 7200")
    plan = run("plan", "--from", "HEAD~1", "--detailed-exitcode", code=3)
    (value,) = (each for each in plan["values"] if not each["derived"])
    line = (repository.root / value["file"]).read_text().splitlines()[value["line"] - 1]
    assert value["path"] == "keystone:server:token:expiration" and "7200" in line
    assert [(image["name"], image["action"]) for image in plan["images"]] == [("keystone-server", "bake")]
    assert [(each["kind"], each["name"]) for each in plan["objects"]] == [("Deployment", "keystone-server")]
    assert [(pod["name"], pod["action"]) for pod in plan["pods"]] == [("keystone-server", "restart")]
    assert plan["nodes"] == [] and plan["impact"] == "none" and plan["no_return"] is None
    assert [step["name"] for step in plan["steps"]] == ["keystone-server roll"]


def test_replicas_touch_no_image(repository: Repository, run: Run) -> None:
    change(repository, f"{CLUSTER}/init.yml", "control_replicas: 3", "control_replicas: 2")
    plan = run("plan", "--from", "HEAD~1")
    assert plan["images"] == []
    assert ("keystone-server", "scale", 3, 2) in [
        (pod["name"], pod["action"], pod["before"], pod["after"]) for pod in plan["pods"]
    ]


def test_a_new_certificate_rolls_the_edge_alone(repository: Repository, run: Run) -> None:
    run("pki", "rotate", "edge")
    repository.commit("Another certificate", [repository.pki_dir])
    plan = run("plan", "--from", "HEAD~1")
    assert [(pod["name"], pod["action"]) for pod in plan["pods"]] == [("haproxy-edge", "restart")]
    assert (plan["images"], plan["nodes"], plan["impact"]) == ([], [], "none")
    assert [step["name"] for step in plan["steps"]] == ["prepare", "haproxy-edge roll"]


def test_an_upgrade_expands_migrates_rolls_and_leaves_contract_to_finalize(
    repository: Repository, run: Run
) -> None:
    change(repository, f"{CLUSTER}/init.yml", "openstack_version: epoxy", "openstack_version: gazpacho")
    plan = run("plan", "--from", "HEAD~1")
    phases = [step["phase"] for step in plan["steps"]]
    assert phases.index("expand") < phases.index("migrate") < phases.index("roll")
    assert [step["phase"] for step in plan["finalize"]] == ["contract"] and plan["no_return"] == "finalize"
    assert [image["action"] for image in plan["images"]] == ["build"]


def test_the_digest_follows_the_content_alone(repository: Repository, run: Run) -> None:
    first = run("plan")["digest"]
    repository.git("commit", "--quiet", "--allow-empty", "-m", "nothing", environment=repository.author())
    assert run("plan")["digest"] == first
    change(repository, f"{CLUSTER}/overlay/keystone.yml", "expiration: 3600", "expiration: 7200")
    assert run("plan")["digest"] != first


def test_the_remembered_commit_is_where_a_plan_starts(repository: Repository, run: Run) -> None:
    assert run("plan")["from"] is None
    repository.set_reference("deployed", "HEAD")
    assert run("plan")["from"] == repository.head()


def test_a_dirty_tree_is_warned_of(repository: Repository, run: Run) -> None:
    (repository.root / "README.md").write_text("not committed")
    assert "not committed" in run("plan")["warnings"][0]


def test_an_unknown_commit_is_refused(run: Run) -> None:
    assert "E006" in run("plan", "--from", "nowhere", code=1)


def test_the_plan_for_people_says_what_where_and_in_which_order(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    change(repository, f"{CLUSTER}/overlay/keystone.yml", "expiration: 3600", "expiration: 7200")
    with pytest.raises(SystemExit) as left:
        main(["-C", str(repository.root), "plan", "--from", "HEAD~1"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    for words in (
        "keystone:server:token:expiration: 3600 → 7200",
        f"{CLUSTER}/overlay/keystone.yml:",
        "1 to bake, 3 reused",
        "~ Deployment openstack/keystone-server",
        "Machines  none",
        "1. keystone-server roll",
        "Impact    none",
    ):
        assert words in text


def test_a_value_of_many_lines_is_one_line_of_the_plan(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    after = 'expiration: 3600\n        note: "two\\nlines"'
    change(repository, f"{CLUSTER}/overlay/keystone.yml", "expiration: 3600", after)
    with pytest.raises(SystemExit):
        main(["-C", str(repository.root), "plan", "--from", "HEAD~1"])
    assert "(not set) → two lines" in capsys.readouterr().out


def test_the_impact_of_a_plan_is_that_of_deploy_alone(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "parameters: {linux: {package: {jq: {}}}}"
    change(repository, f"{CLUSTER}/underlay/init.yml", "parameters: {}", more)
    with pytest.raises(SystemExit):
        main(["-C", str(repository.root), "plan", "--from", "HEAD~1"])
    assert "what a machine restarts" in capsys.readouterr().out


def test_manifests_are_files_by_service_role_and_kind(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "out"
    listed = run("manifests", "--output-dir", str(target))
    assert listed["kind"] == "List" and len(listed["items"]) == len(list(target.iterdir()))
    assert (target / "keystone-server-deployment-keystone-server.yml").is_file()
    assert (target / "keystone-server-svc-keystone-server.yml").is_file()


def test_manifests_of_another_state_of_the_model_are_named(
    repository: Repository, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "keystone-server-job-keystone-server-db-sync-old.yml").write_text("{}")
    with pytest.raises(SystemExit):
        main(["-C", str(repository.root), "manifests", "--output-dir", str(tmp_path)])
    said = capsys.readouterr().err
    assert "1 more there are not of this model: keystone-server-job-keystone-server-db-sync-old.yml" in said


def test_secrets_are_masked_unless_revealed(repository: Repository, run: Run) -> None:
    def values(*options: str) -> set[str]:
        items = run("manifests", *options)["items"]
        return {text for item in items if item["kind"] == "Secret" for text in item["stringData"].values()}

    assert values() == {"***"}
    assert not any("***" in text or "?{age" in text for text in values("--reveal"))
    config = repository.node_names()[0]
    assert "?{age" not in json.dumps(run("inventory"))
    assert "***" not in json.dumps(run("inventory", config, "--reveal"))


def test_images_know_their_tags_and_users_offline(run: Run) -> None:
    images = {image["role"]: image for image in run("images", "list")["images"]}
    assert set(images) == {"haproxy:edge", "keystone:server", "mariadb:server", "memcached:server"}
    assert images["keystone:server"]["used_by"] == ["keystone-rotation", "keystone-server"]
    assert all(image["present"] is None for image in images.values())


def test_a_registry_that_does_not_answer_is_named(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    change(
        repository,
        f"{CLUSTER}/init.yml",
        "registry_host: ${_param:config_fqdn}",
        "registry_host: 127.77.0.10",
    )
    with pytest.raises(SystemExit) as left:
        main(["-C", str(repository.root), "images", "list", "--present"])
    said = capsys.readouterr()
    assert left.value.code == 0
    assert "no answer" in said.out and "The registry 127.77.0.10:5000 does not answer." in said.err


def test_images_tell_their_options_and_packages(run: Run) -> None:
    for release in ("epoxy", "gazpacho"):
        known = run("images", "options", "keystone-server", "--release", release)["options"]
        assert known[release]["keystone-server"]["token"]["expiration"] == "integer 0.."
    assert "images lock" in run("images", "sbom", "keystone-server", code=1)


def test_an_unknown_image_has_a_hint(run: Run) -> None:
    said = run("images", "build", "keystone-sever", code=1)
    assert "E042" in said and "keystone-server" in said


def test_the_pipeline_refuses_what_does_not_validate(repository: Repository, run: Run) -> None:
    change(repository, f"{CLUSTER}/init.yml", "openstack_version: epoxy", "openstack_version: kilo")
    stages = run("pipeline", "run", code=1)["stages"]
    assert [(stage["name"], stage["result"]) for stage in stages] == [("validate", "refused")]


def test_the_pipeline_holds_a_commit_against_what_is_deployed(repository: Repository, run: Run) -> None:
    repository.set_reference("deployed", "HEAD")
    change(repository, f"{CLUSTER}/init.yml", 'kubernetes_version: "1.36.3"', 'kubernetes_version: "1.35.4"')
    (stage,) = run("pipeline", "run", code=1)["stages"]
    assert stage["name"] == "validate" and "E303" in stage["detail"]


def test_the_pipeline_of_an_older_push_does_not_take_the_masters_copy_back(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "model"
    repository.git("clone", "--quiet", str(repository.root), str(copy))
    monkeypatch.setattr(pipeline, "MODEL", copy)
    older = repository.head()
    change(repository, f"{CLUSTER}/overlay/keystone.yml", "expiration: 3600", "expiration: 7200")
    newer = repository.head()

    def update(revision: str) -> str:
        return dict(pipeline.STAGES)["update"](
            pipeline.Change(repository, Keyring.find(repository), revision, repository, print)
        )

    assert newer[:12] in update(newer)
    assert "stays" in update(older)
    assert Repository(copy).head() == newer
    repository.git("checkout", "--quiet", "-b", "other", older)
    change(repository, f"{CLUSTER}/overlay/keystone.yml", "expiration: 3600", "expiration: 1800")
    update(repository.head())  # not older, another: what is pushed last is right
    assert Repository(copy).head() == repository.head()


def test_the_pipeline_stops_where_images_are_not_locked(run: Run) -> None:
    stages = run("pipeline", "run", code=1)["stages"]
    assert [stage["result"] for stage in stages] == ["done", "done", "refused"]
    assert stages[-1]["name"] == "build" and "images lock" in stages[-1]["detail"]


def test_an_authority_is_replaced_step_by_committed_step(repository: Repository, run: Run) -> None:
    files = run("pki", "rotate", "--authority", "services")["files"]
    assert [Path(file).name for file in files] == ["authority-keys.yml", "authorities.yml"]
    assert "E007" in run("pki", "rotate", "--authority", "services", code=1)
    repository.commit("Trust it", [repository.root])
    plan = run("plan", "--from", "HEAD~1")
    assert {node["name"] for node in plan["nodes"]} == set(repository.node_names()) and not plan["images"]
    files = run("pki", "rotate", "--authority", "services")["files"]
    assert f"{CLUSTER}/pki/cfg01.demo.local.yml" in files  # the registry's certificate
    assert "name no others" in run("pki", "rotate", "--authority", "services", "cmp01.demo.local", code=2)
    assert run("validate")["errors"] == []


def test_deploy_refuses_another_plan_than_the_reviewed(run: Run) -> None:
    assert "E043" in run("deploy", "--plan", "000000000000", "--yes", code=1)


def test_deploy_without_a_terminal_needs_yes(run: Run) -> None:
    assert "--yes" in run("deploy", code=2)


def test_a_dry_run_shows_the_steps(run: Run) -> None:
    assert run("deploy", "--dry-run")["steps"][0]["phase"] == "prepare"


def test_why_names_every_place(repository: Repository, run: Run) -> None:
    answer = run("why", repository.node_names()[0], "keystone:server:token:expiration")
    assert answer["value"] == 3600
    assert [setting["file"].split("/")[1] for setting in answer["set_by"]] == ["system", "cluster"]


def test_init_refuses_a_directory_that_is_not_empty(repository: Repository, run: Run) -> None:
    assert "E007" in run("init", "demo", "--defaults", "--output", str(repository.root), code=1)


def test_init_without_a_terminal_needs_answers(run: Run, tmp_path: Path) -> None:
    assert "--defaults" in run("init", "demo", "--output", str(tmp_path / "new"), code=2)


def test_one_machine_has_no_masters_to_count(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "new"
    said = run("init", "one", "--defaults", "--all-in-one", "--masters", "3", "--output", str(target), code=2)
    assert "leave out --masters" in said and not target.exists()


def test_live_certificates_are_asked_on_the_config_machine(run: Run) -> None:
    assert "E033" in run("pki", "status", "--live", code=1)


def test_what_a_machine_has_is_held_against_the_model(repository: Repository, run: Run) -> None:
    inventory = Inventory(repository)
    nodes = {node.name: node for node in inventory.nodes()}
    rows = [row for row in run("pki", "status")["certificates"] if row["name"] in ("etcd-peer", "admin")]
    master = next(row["node"] for row in rows if row["name"] == "etcd-peer" and row["node"])
    own = nodes[master].parameters["pki"]["certificate"]
    compare(rows, nodes, {master: {"etcd-peer": own["etcd-server"]["certificate"], "admin": ""}})
    assert {(row["name"], row["node"]): row["live"] for row in rows} == {
        ("etcd-peer", master): "another",
        ("admin", master): "missing",
        ("admin", inventory.config_node().name): "no answer",
        ("etcd-peer", None): None,
    }
    compare(rows, nodes, {master: {"etcd-peer": own["etcd-peer"]["certificate"] + "\n"}})
    peer = next(row for row in rows if (row["name"], row["node"]) == ("etcd-peer", master))
    assert peer["live"] == "the model's" and peer["live_not_after"] == peer["not_after"]


def test_certificates_that_end_soon_fail_the_status(repository: Repository, run: Run) -> None:
    assert run("pki", "status")["problems"] == []
    then = datetime.now(UTC) - timedelta(days=340)
    pki.rotate(repository, Keyring.find(repository), ["registry"], now=then)
    (told,) = run("pki", "status", code=1)["problems"]
    assert (told["code"], told["node"]) == ("W130", Inventory(repository).config_node().name)
    assert "the certificate registry ends in 24 days" in told["message"] and "pki issue" in told["hint"]


def test_an_empty_pipe_is_no_secret(
    repository: Repository, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    assert "pipe is empty" in run("secrets", "set", "smtp_password", code=2)
    assert "smtp_password" not in repository.secrets_file.read_text()


def test_init_takes_answers_from_a_file(run: Run, tmp_path: Path) -> None:
    answers = tmp_path / "answers.yml"
    answers.write_text(yaml.safe_dump({"all_in_one": True, "cluster_domain": "example.org"}))
    target, identity = str(tmp_path / "one"), str(tmp_path / "id")
    made = run("init", "one", "--answers", str(answers), "--output", target, "--identity-dir", identity)
    assert made["nodes"] == ["aio01.example.org"]


def test_a_report_is_one_page_that_escapes(tmp_path: Path) -> None:
    from cli.workflows.report import find, keep, write_page

    step = {
        "name": "<b>roll</b>", "phase": "roll", "result": "failed", "begun": 0.5, "seconds": 1.5, "message": "no <pod>",
    }  # fmt: skip
    seen = {"requests": 100, "failed": 0, "longest_gap_s": 0.2}
    report = {
        "rollout": "r1", "action": "deploy", "result": "failed", "from": None, "to": "abc", "started": "",
        "seconds": 2.0, "critical_path": [{"name": step["name"], "seconds": 1.5, "place": False}],
        "steps": [step], "downtime": {"identity": seen}, "plan": None, "checks": [],
    }  # fmt: skip
    assert keep(report, tmp_path / "absent") is None
    assert keep(report, tmp_path) == tmp_path / "r1.json"
    assert (tmp_path / "r1.html").is_file(), "for whoever has a browser only"
    assert find(None, tmp_path) == report and find("r2", tmp_path) is None
    checked = {"name": "a-token", "result": "ok", "seconds": 0.5, "detail": "POST answered 201"}
    write_page({**report, "checks": [checked]}, tmp_path / "r1.html")
    page = (tmp_path / "r1.html").read_text()
    assert "&lt;b&gt;roll" in page and "no &lt;pod&gt;" in page and "http" not in page
    assert "identity" in page and "a-token" in page


PEERS = {"peer": "10.10.0.254", "state": "Active", "why": "BGP Error: Hold timer expired"}


@pytest.mark.parametrize(
    ("answers", "code", "told"),
    [
        (lambda name: [{**PEERS, "state": "Established"}], 0, []),
        (lambda name: [PEERS] if name == "ctl01.demo.local" else [], 1, [("E250", "ctl01.demo.local")]),
        (lambda name: None if name == "cmp01.demo.local" else [], 1, [("E230", "cmp01.demo.local")]),
        (lambda name: None, 0, None),
    ],
)
def test_status_tells_bgp_sessions_that_are_down_where_the_salt_master_is(
    answers: Callable[[str], Any],
    code: int,
    told: list[tuple[str, str]] | None,
    repository: Repository,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Healthy:
        workloads = ()

        def as_dict(self) -> dict[str, Any]:
            return {"workloads": []}

    monkeypatch.setattr(deployment, "connect", lambda *_: None)
    monkeypatch.setattr(rollout, "status", lambda *_: Healthy())
    assert run("status")["network"] is None, "no Salt master here"
    monkeypatch.setattr(live, "MASTER", tmp_path / "master")
    (tmp_path / "master").touch()
    said = {name: answer for name in repository.node_names() if (answer := answers(name)) is not None}
    monkeypatch.setattr(live, "_ask", lambda *_: said)
    network = run("status", code=code)["network"]
    assert told == (network and [(problem["code"], problem["node"]) for problem in network])
    if told and told[0][0] == "E250":
        assert "10.10.0.254 (Active, BGP Error: Hold timer expired)" in network[0]["message"]
