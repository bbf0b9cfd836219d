"""The contract of the command line: help with examples everywhere, errors in words, exit codes, a quick start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.main import COMMANDS, main, root
from cli.options import Command, Invocation, pass_invocation
from reclass_model.errors import OperatorError, Problem
from reclass_model.repository import SETTINGS_FILE

HEAVY = (
    "rich",
    "yaml",
    "ruamel",
    "salt",
    "docker",
    "urllib3",
    "requests",
    "cryptography",
    "jsonschema",
    "jinja2",
)


def every_command() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(root)
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            for inner in command.commands.values():
                yield f"{name} {inner.name}", inner
        else:
            yield name, command


EVERY = list(every_command())


@pytest.mark.parametrize(("name", "command"), EVERY, ids=[name for name, _ in EVERY])
def test_help_ends_with_an_example(name: str, command: click.Command) -> None:
    assert isinstance(command, Command), "declare it with cli.options.command"
    assert command.examples, "give it an example"
    for example in command.examples:
        assert f"ostack-k8s {name}" in example or f" {name} " in f"{example} ", example
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert "Example" in result.output and command.examples[0] in result.output


@pytest.mark.parametrize(("name", "command"), EVERY, ids=[name for name, _ in EVERY])
def test_every_option_says_what_it_is(name: str, command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name: str) -> None:
    command = root.get_command(click.Context(root), name)
    assert command is not None and command.help is not None
    assert command.help.splitlines()[0] == COMMANDS[name][1]


def test_every_command_of_the_contract_is_there() -> None:
    contract = """init update validate inventory why states images manifests compose plan bundle lab deploy status
        rollback finalize smoke report secrets pki pipeline node"""
    assert set(contract.split()) <= set(COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from cli.main import root
root.main(["--help"], standalone_mode=False)
loaded = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit(f"loaded: {{loaded}}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command that raises `error`."""

    def broken(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(root, "main", broken)
    with pytest.raises(SystemExit) as left:
        main([])
    assert isinstance(left.value.code, int)
    return left.value.code


def test_an_operators_error_is_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = Problem(
        "E203", "address 10.0.0.1 is used twice", file="nodes/a.yml", line=4, hint="10.0.0.9 is free"
    )
    assert fail_with(OperatorError("x", problems=[problem]), monkeypatch) == 1
    said = capsys.readouterr().err
    assert "E203 nodes/a.yml:4: address 10.0.0.1 is used twice" in said
    assert "hint: 10.0.0.9 is free" in said


def test_a_full_disk_is_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert fail_with(OSError(28, "No space left on device", "/srv/x"), monkeypatch) == 1
    assert "No space left on device: /srv/x" in capsys.readouterr().err


def test_an_unexpected_error_leaves_a_trace_file_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fail_with(ZeroDivisionError("oops"), monkeypatch) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said and "ZeroDivisionError: oops" in said
    (trace,) = (tmp_path / "ostack-k8s").glob("trace-*.txt")
    assert str(trace) in said and "Traceback" in trace.read_text()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption_is_130(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail_with(error, monkeypatch) == 130
    assert capsys.readouterr().err.strip() == "interrupted; run the same command again"


def test_what_fails_of_an_interruption_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    error = AttributeError("half a module")
    error.__context__ = KeyboardInterrupt()
    assert fail_with(error, monkeypatch) == 130


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    code = "import sys; from cli.main import main; main(['--help'])"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode == 1 and done.stderr == b""


@pytest.mark.parametrize(
    "arguments", [["vaildate"], ["validate", "--wrong"], ["why"], ["-o", "xml", "validate"]]
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "Error" in capsys.readouterr().err


def test_a_misspelt_command_has_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["vaildate"])
    assert "Did you mean 'validate'?" in capsys.readouterr().err


def test_outside_of_a_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["-C", str(tmp_path), "validate"])
    assert left.value.code == 1
    assert "E001" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["before", "after", "environment"])
def test_the_directory_and_the_format_may_stand_anywhere(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, str]] = []

    class Stop(Exception):
        pass

    def note(self: Invocation) -> None:
        seen.append((self.directory, self.format))
        raise Stop

    monkeypatch.setattr(Invocation, "repository", property(note))
    options = ["-C", str(tmp_path), "-o", "json"]
    if place == "environment":
        monkeypatch.setenv("OSTACK_K8S_DIRECTORY", str(tmp_path))
        monkeypatch.setenv("OSTACK_K8S_FORMAT", "json")
        arguments = ["validate"]
    else:
        arguments = [*options, "validate"] if place == "before" else ["validate", *options]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        main(arguments)
    assert seen == [(str(tmp_path), "json")]


def test_a_flag_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTACK_K8S_DIRECTORY", str(tmp_path))
    invocation = Invocation()
    root.main(["-C", "/", "completion", "bash"], standalone_mode=False, obj=invocation)
    assert invocation.directory == "/"


OPTIONS = "cluster_name: demo\noptions:\n  format: yaml\n  plan: {to: v1, detailed-exitcode: true}\n"


def _planned(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[str, str, bool]:
    """(revision, format, whether the exit code is detailed) of `plan` with these arguments."""
    seen: list[tuple[str, str, bool]] = []

    def plan(invocation: Invocation, before: str | None, after: str, detailed_exitcode: bool) -> None:
        seen.append((after, invocation.format, detailed_exitcode))

    from cli.commands.plan import plan as command

    monkeypatch.setattr(command, "callback", pass_invocation(plan))
    root.main(list(arguments), standalone_mode=False)
    return seen[0]


def test_the_repository_settles_what_neither_flag_nor_environment_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / SETTINGS_FILE).write_text(OPTIONS)
    place = ("-C", str(tmp_path))
    assert _planned(monkeypatch, *place, "plan") == ("v1", "yaml", True)
    assert _planned(monkeypatch, "plan", *place) == ("v1", "yaml", True)
    assert _planned(monkeypatch, *place, "-o", "json", "plan", "--to", "v2") == ("v2", "json", True)
    monkeypatch.setenv("OSTACK_K8S_PLAN_AFTER", "v3")
    monkeypatch.setenv("OSTACK_K8S_FORMAT", "json")
    assert _planned(monkeypatch, *place, "plan") == ("v3", "json", True)
    monkeypatch.chdir(tmp_path)
    assert _planned(monkeypatch, "plan", "--to", "v2") == ("v2", "json", True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("  planned: {}", "'planned'"),
        ("  plan: {too: v1}", "'too'"),
        ("  plan: v1", "plan is no mapping"),
        ("  x", "`options` is a mapping"),
    ],
)
def test_an_option_of_the_repository_that_there_is_not(
    options: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / SETTINGS_FILE).write_text(f"cluster_name: demo\noptions:\n{options}\n")
    with pytest.raises(OperatorError, match=said) as caught:
        _planned(monkeypatch, "-C", str(tmp_path), "plan")
    assert caught.value.code == "E002"


def test_a_question_without_a_terminal_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with pytest.raises(click.UsageError, match="--yes"):
        Invocation().confirm("Really?", yes=False)
    Invocation().confirm("Really?", yes=True)


def test_yaml_and_json_say_the_same() -> None:
    import yaml

    from cli.output.structured import dump

    data = {"errors": [Problem("E1", "x", file="a", line=1)], "paths": (Path("/a"),), "set": {"b", "a"}}
    assert json.loads(dump(data, "json")) == yaml.safe_load(dump(data, "yaml"))
