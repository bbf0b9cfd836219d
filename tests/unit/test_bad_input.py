"""An operator who does everything wrong: each mistake through the command line, read as a person reads it.

Broken models are data in tests/cases (test_validation.py); here is what is wrong around them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.main import main
from reclass_model import pki
from reclass_model.repository import Repository

CLUSTER = "classes/cluster/demo"


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


Say = Callable[..., Said]


@pytest.fixture
def say(repository: Repository, capsys: pytest.CaptureFixture[str]) -> Say:
    def run(*arguments: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(["-C", str(repository.root), *arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err and "fault of ostack-k8s" not in captured.err, captured.err
        assert isinstance(left.value.code, int)
        return Said(left.value.code, captured.out, captured.err)

    return run


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("inventory nope", "E003 .*'nope'"),
        ("inventory cfg01", "E003 .*\n.*did you mean `cfg01.demo.local`"),
        ("why cfg01.demo.local _param:opnstack_version", "E104 .*\n.*did you mean `openstack_version`"),
        ("why nope _param", "E003"),
        ("inventory ../nodes/cfg01.demo.local", "E003"),
        ("node remove kmst01", "E009 nodes/kmst01.demo.local.yml: .*last machine with the role kube_master"),
        ("node remove cfg01.demo.local", "E009 .*last machine with the role config"),
        ("plan --to nope", "E006 no commit 'nope'"),
        ("plan --from --output=x", "E006"),
        ("deploy nope --yes", "E006"),
        ("pipeline run nope", "E006"),
        ("images build nope", "E042"),
        ("report ../../etc/passwd", "E041"),
        ("node remove nope", "E003"),
        ("secrets get nope", f"E404 {CLUSTER}/secrets.yml"),
    ],
)
def test_a_name_that_is_not_there(say: Say, command: str, words: str) -> None:
    for output in ("human", "json"):
        said = say("-o", output, *command.split())
        assert (said.code, said.out) == (1, "")
        assert re.search(words, said.err), said.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [b\n", r"E002 .ostack-k8s.yml:[12]: not valid YAML"),
        (b"\xff\xfe", r"E002 .ostack-k8s.yml: not text in UTF-8"),
        (b"", r"E002 .ostack-k8s.yml: `cluster_name` is missing"),
        (b"cluster_name: demo\nrecipients: 7\n", r"E002 .ostack-k8s.yml:2: `recipients` is a mapping, not 7"),
        (b"cluster_name: demo\nanswers: [a]\n", r"E002 .ostack-k8s.yml:2: `answers` is a mapping"),
        (b"cluster_name: other\n", r"E002 .ostack-k8s.yml: .*classes/cluster/other does not exist"),
    ],
)
def test_broken_settings(repository: Repository, say: Say, content: bytes, words: str) -> None:
    (repository.root / ".ostack-k8s.yml").write_bytes(content)
    said = say("validate")
    assert said.code == 1
    assert re.search(words, said.err), said.err


@pytest.mark.parametrize(
    "command", ["validate", "inventory cmp01.demo.local", "images list", "states cmp01.demo.local"]
)
def test_a_file_that_is_no_text(repository: Repository, say: Say, command: str) -> None:
    (repository.root / CLUSTER / "init.yml").write_bytes(b"\xff\xfe")
    said = say(*command.split())
    assert said.code == 1
    assert f"E101 {CLUSTER}/init.yml: not text in UTF-8" in said.err


def test_what_is_no_machine_is_told_once_and_hides_no_machine(repository: Repository, say: Say) -> None:
    (repository.nodes_dir / "x.yml").mkdir()
    assert "E107 nodes/x.yml: this is no machine's file" in say("validate").err
    assert "cmp01.demo.local" in say("inventory").out
    (repository.nodes_dir / "l.yml").symlink_to("l.yml")
    assert say("inventory").err.count("E107") == 1


def test_what_the_engine_does_not_read_has_a_line_everywhere(repository: Repository, say: Say) -> None:
    node = repository.node_file("cmp01.demo.local")
    text = node.read_text()
    for odd in ("    ? [a, b]\n    : 1\n", "    password: !vault x\n"):
        node.write_text(text + odd)
        for command in (
            ["inventory"],
            ["inventory", "cmp01.demo.local"],
            ["why", "cmp01.demo.local", "_param"],
        ):
            assert f"E107 nodes/cmp01.demo.local.yml:{text.count(chr(10)) + 1}" in say(*command).err


def test_keys_of_several_types(repository: Repository, say: Say) -> None:
    with (repository.root / CLUSTER / "overlay" / "keystone.yml").open("a") as file:
        file.write("  9: x\n  other: {1: a, b: c, null: d}\n")
    repository.commit("keys", [repository.classes_dir])
    assert "other" in say("plan", "--from", "HEAD~1").out
    assert "W110" in say("validate").err


def test_a_link_that_leads_to_nothing(repository: Repository, say: Say) -> None:
    (repository.root / CLUSTER / "init.yml").unlink()
    (repository.root / CLUSTER / "init.yml").symlink_to("nowhere")
    for command in (["validate"], ["inventory", "cmp01.demo.local"]):
        assert f"E101 {CLUSTER}/init.yml: cannot be read" in say(*command).err


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (b"masters: 1\nmastres: 3\n", "E010 answers.yml:2: no question 'mastres'\n.*did you mean `masters`"),
        (b"masters: 1\ncomputes: [1]\n", "E010 answers.yml:2: computes: "),
        (b"openstack_version: kilo\n", "E010 answers.yml:1: openstack_version: 'kilo'"),
        (b"masters: 1\nmasters: 3\n", "E010 answers.yml:2: masters is answered twice\n.*line 1"),
        (
            b"masters: 1\npod_network: 10.10.0.0/16\n",
            "E010 answers.yml:2: pod_network: .*overlaps underlay_network",
        ),
        (b"- a\n", "E010 answers.yml:1: answers are a mapping"),
        (b"a: [\n", "E010 answers.yml:2: not valid YAML"),
        (b"\xff", "E010 answers.yml: not text in UTF-8"),
    ],
)
def test_bad_answers(say: Say, tmp_path: Path, answers: bytes, words: str) -> None:
    (tmp_path / "answers.yml").write_bytes(answers)
    said = say("init", "new", "--answers", "answers.yml")
    assert (said.code, said.out) == (1, "")
    assert re.search(words, said.err), said.err
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))


def test_what_is_not_locked_says_which_line_asks_for_it(repository: Repository, say: Say) -> None:
    said = say("images", "build")
    place = re.search(rf"E506 ({CLUSTER}/init.yml):(\d+): keystone-server", said.err)
    assert said.code == 1 and place, said.err
    line = (repository.root / place[1]).read_text().splitlines()[int(place[2]) - 1]
    assert "openstack_version: epoxy" in line


def test_what_a_schema_refuses_is_told_by_what_stumbles_over_it(repository: Repository, say: Say) -> None:
    file = repository.cluster_dir / "init.yml"
    file.write_text(re.sub(r"control_replicas: \d+", "control_replicas: many", file.read_text()))
    repository.commit("many", [file])
    for command in ("validate", "plan", "manifests"):
        assert re.search(rf"E111 {CLUSTER}/init.yml:\d+: \"many\" is not a whole", say(*command.split()).err)


def test_a_broken_lock_has_a_place_in_a_plan_too(repository: Repository, say: Say) -> None:
    repository.lock_file.write_text("images:\n  a: [\n")
    repository.commit("broken", [repository.lock_file])
    for command in ("images list", "plan"):
        assert f"E504 {CLUSTER}/images.lock.yml:3: not valid YAML" in say(*command.split()).err


def test_a_corrupt_secret_has_a_place(repository: Repository, say: Say) -> None:
    text = repository.secrets_file.read_text()
    lines = text.splitlines()
    number = next(n for n, line in enumerate(lines, 1) if "database_password" in line)
    token = re.search(r"\?\{age:[0-9a-f]{12}:", lines[number - 1])
    assert token
    repository.secrets_file.write_text(
        text.replace(lines[number - 1], lines[number - 1].replace(token[0], token[0] + "AAAA"))
    )
    place = f"E403 {CLUSTER}/secrets.yml:{number}: a secret is corrupt"
    for command in ("validate", "secrets check", "inventory cfg01.demo.local --reveal"):
        said = say(*command.split())
        assert said.code == 1 and place in said.err, said.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "E401 cannot read the age identity .*/mine.age: No such file"),
        (b"", "E401 .*/mine.age is no age identity\n.*AGE-SECRET-KEY-1"),
        (b"\xff\x91", "E401 .*/mine.age is no age identity"),
    ],
)
def test_an_identity_that_was_named_is_the_only_one(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, words: str
) -> None:
    monkeypatch.setenv("OSTACK_K8S_IDENTITY_DIR", str(Path(os.environ["OSTACK_K8S_IDENTITY"]).parent))
    monkeypatch.setenv("OSTACK_K8S_IDENTITY", str(tmp_path / "mine.age"))
    if content is not None:
        (tmp_path / "mine.age").write_bytes(content)
    assert re.search(words, say("secrets", "check").err)


def test_the_hint_of_many_secrets_is_said_once(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reclass_model.secrets import new_identity

    new_identity(tmp_path / "other.age")
    monkeypatch.setenv("OSTACK_K8S_IDENTITY", str(tmp_path / "other.age"))
    said = say("secrets", "check").err
    assert said.count("E402") > 10 and said.count("hint:") == 1


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("echo x | $O secrets set ''", "E404 '' is no path"),
        ("echo x | $O secrets set a:", "E404 'a:' is no path"),
        ("printf '\\377' | $O secrets set a", "not text in UTF-8"),
        ("$O secrets set a </dev/null", "the pipe is empty"),
        (f"echo '  x: [' >>{CLUSTER}/secrets.yml; echo x | $O secrets set a", f"E101 {CLUSTER}/secrets.yml:"),
        (f"rm {CLUSTER}/secrets.yml; echo x | $O secrets set a", "E404 .*'secret_digest_key'\n.*from git"),
    ],
)
def test_secrets_that_cannot_be_set(repository: Repository, shell: str, words: str) -> None:
    said = run(shell, repository.root)
    assert said.code in (1, 2) and re.search(words, said.err), said.err


def test_a_corrupt_certificate_is_issued_anew(repository: Repository, say: Say) -> None:
    file = repository.pki_dir / "kmst01.demo.local.yml"
    file.write_text(file.read_text().replace("BEGIN CERTIFICATE", "BEGIN CERT", 1))
    assert "not issued" in say("pki", "status").out
    assert "pki/kmst01.demo.local.yml" in say("pki", "issue").out
    assert "not issued" not in say("pki", "status").out


def test_what_is_not_committed_is_not_deployed_and_that_is_said(repository: Repository, say: Say) -> None:
    with (repository.root / CLUSTER / "init.yml").open("a") as file:
        file.write("# a word\n")
    for command in ("plan", "deploy --dry-run"):
        assert "not committed" in say(*command.split()).out
    assert re.search("E007 .*uncommitted.*\n.*git commit", say("update").err)


def test_no_git_repository(repository: Repository, say: Say) -> None:
    shutil.rmtree(repository.root / ".git")
    for command in ("plan", "update"):
        assert re.search("E005 .* is not a git repository\n.*git init", say(*command.split()).err)


def run(shell: str, directory: Path, **environment: str) -> Said:
    """A line of shell as a person types it; `$O` is the command."""
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, cwd=directory, check=False,
        env={**os.environ, "O": f"{sys.executable} -m cli.main", **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr and "fault of ostack-k8s" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def test_a_locale_that_is_not_utf_8(repository: Repository) -> None:
    with (repository.root / CLUSTER / "init.yml").open("a") as file:
        file.write("    name: café\n")
    latin = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    said = run("$O why cmp01.demo.local _param:name", repository.root, **latin)
    assert said.code == 0 and said.out.startswith("_param:name = café")
    assert (
        "caf\\xe9"
        in run("$O why cmp01.demo.local _param:name", repository.root, PYTHONIOENCODING="ascii").out
    )


@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ("$O validate >&-", 0),
        ("$O validate >&- 2>&- <&-", 0),
        ("$O inventory nope 2>&-", 1),
        ("$O init new <&-", 2),
        ("$O deploy <&-", 2),
        ("$O validate >/dev/full", 1),
    ],
)
def test_streams_that_are_closed_or_full(repository: Repository, shell: str, code: int) -> None:
    assert run(shell, repository.root).code == code


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_init_on_a_full_disk(say: Say, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", small], check=False).returncode:
        pytest.skip("no mounts here")
    try:
        said = say("init", "new", "--defaults", "--output", str(small / "new"))
        assert said.code == 1 and "No space left on device" in said.err
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize(
    "command", ["init new --answers answers.yml", "-C demo validate", "-C demo inventory -o json"]
)
def test_ctrl_c(command: str, repository: Repository, tmp_path: Path) -> None:
    """The group gets SIGINT as from a terminal while it works; nothing half-made is left."""
    (tmp_path / "answers.yml").write_text("computes: 150\n")
    code = "from signal import *; signal(SIGINT, default_int_handler)\n"
    code += "from cli.main import main; print('up', flush=True); main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command.split()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=tmp_path,
    )  # fmt: skip
    assert process.stdout and process.stdout.readline() == "up\n"
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (130, "interrupted; run the same command again")
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))


def test_a_lab_is_derived_whole_or_not_at_all(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes_formula.lab.derivation import derive
    from kubernetes_formula.lab.place import Place

    def interrupted(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    place = Place("demo")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pki, "issue", interrupted)
        derive(repository, place, lambda line: None)
    assert not place.model.exists()
    assert derive(repository, place, lambda line: None).root == place.model.resolve()
