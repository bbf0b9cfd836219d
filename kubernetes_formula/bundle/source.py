"""Artifacts from source, through the Go module proxy: pinned modules in, the same bytes out.

`sources.yml` says how each artifact is made, `modules/<module>/<version>/` pins what goes into it. Go's own caches make
a build that was interrupted go on where it was.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from kubernetes_formula.bundle import image
from kubernetes_formula.bundle.artifact import Wanted
from reclass_model.errors import OperatorError

HERE = Path(__file__).parent
#: Part of every cache key: raise it when the packing or the flags below change.
FORMAT = 1
#: Seconds between two lines of progress while Go compiles.
PROGRESS_INTERVAL = 10.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """One entry of sources.yml."""

    module: str
    form: str
    members: dict[str, str]
    ldflags: str
    user: str = ""
    cgo: dict[str, str] | None = None


class Source:
    """Makes artifacts with the Go that is on this machine."""

    def __init__(self) -> None:
        """Raises OperatorError E702 when Go is missing or too old."""
        self._sources: dict[str, Any] = yaml.safe_load((HERE / "sources.yml").read_text(encoding="utf-8"))
        self.compiler = _go_version(self._sources["go"])

    def check(self, wanted: Wanted) -> None:
        """Raises OperatorError when this artifact cannot be made here: unknown, not pinned, a C library missing."""
        recipe = self._recipe(wanted)
        self._module(recipe, wanted)
        if recipe.form == "image" and wanted.image is None:
            raise OperatorError(f"bundle:artifact:{wanted.name}:image is not set", code="E701")
        if recipe.cgo is not None:
            _library_version(wanted.name, recipe.cgo)

    def inputs(self, wanted: Wanted) -> dict[str, Any]:
        """All that decides the artifact's bytes."""
        recipe = self._recipe(wanted)
        module = self._module(recipe, wanted)
        return {
            "format": FORMAT,
            "compiler": self.compiler,
            "recipe": vars(recipe),
            "artifact": [wanted.name, wanted.version, wanted.image],
            "module": {
                str(path.relative_to(module)): path.read_text(encoding="utf-8")
                for path in sorted(module.rglob("*"))
                if path.is_file()
            },
            "library": None if recipe.cgo is None else _library_version(wanted.name, recipe.cgo),
        }

    def make(self, wanted: Wanted, work: Path, progress: Progress) -> Path:
        """Build the artifact in the empty folder `work`; the file's path."""
        recipe = self._recipe(wanted)
        members = {}
        for name, package in recipe.members.items():
            path = work / Path(name).name
            if recipe.form == "file":
                self._copy(recipe, wanted, package, path)
            else:
                self._compile(recipe, wanted, package, path, progress)
            members[name.format(version=wanted.version)] = path
        if recipe.form in ("binary", "file"):
            return path
        target = work / "artifact"
        if recipe.form == "archive":
            _write_archive(target, members)
        else:
            image.write(target, wanted.image or "", members, f"/{next(iter(members))}", recipe.user)
        return target

    def _recipe(self, wanted: Wanted) -> Recipe:
        try:
            return Recipe(**self._sources["artifact"][wanted.name])
        except KeyError:
            raise OperatorError(
                f"nothing says how {wanted.name} is built from source",
                code="E703",
                hint="add it to kubernetes_formula/bundle/sources.yml, or build the bundle without --from-source",
            ) from None

    def _module(self, recipe: Recipe, wanted: Wanted) -> Path:
        module = HERE / "modules" / recipe.module / wanted.version
        if not module.is_dir():
            known = ", ".join(sorted(path.name for path in module.parent.iterdir()))
            raise OperatorError(
                f"{wanted.name} {wanted.version} has no pinned Go modules; pinned versions of {recipe.module}: {known}",
                code="E703",
                hint="choose one of them, or pin the version as kubernetes_formula/bundle/modules/README.md says",
            )
        return module

    @cached_property
    def _environment(self) -> dict[str, str]:
        """The caller's, with all that changes the result fixed. The hashes are in go.sum: no sum database is asked."""
        fixed = {"GOOS": "linux", "GOARCH": "amd64", "GOAMD64": "v1", "GOFLAGS": "", "GOEXPERIMENT": ""}
        return {**os.environ, **fixed, "GOTOOLCHAIN": "local", "GOWORK": "off", "GOSUMDB": "off"}

    def _compile(
        self, recipe: Recipe, wanted: Wanted, package: str, target: Path, progress: Progress
    ) -> None:
        major, minor = wanted.version.split(".")[:2]
        flags = "-s -w " + recipe.ldflags.format(version=wanted.version, major=major, minor=minor)
        tags = []
        if recipe.cgo is not None:
            flags += " -extldflags -static"
            tags = ["-tags", recipe.cgo["tags"].replace(" ", ",")]
        command = ["go", "build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false", *tags]
        command += ["-ldflags", flags, "-o", str(target), package]
        environment = self._environment | {"CGO_ENABLED": "0" if recipe.cgo is None else "1"}
        _run_go(command, self._module(recipe, wanted), environment, target.name, progress)

    def _copy(self, recipe: Recipe, wanted: Wanted, member: str, target: Path) -> None:
        """Put the file `<module>//<path>` of a module's sources, which go.sum pins, at `target`."""
        name, _, path = member.partition("//")
        command = ["go", "mod", "download", "-json", name]
        done = subprocess.run(
            command, cwd=self._module(recipe, wanted), env=self._environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise OperatorError(f"go could not download {name}:\n{done.stderr.rstrip()}", code="E704")
        shutil.copyfile(Path(json.loads(done.stdout)["Dir"], path), target)


def _run_go(
    command: list[str], cwd: Path, environment: dict[str, str], name: str, progress: Progress
) -> None:
    """Run `go build -v`, counting the packages it names. Raises OperatorError E704 with Go's own words."""
    words: list[str] = []
    packages = 0
    told = time.monotonic()
    with subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if re.fullmatch(r"[\w./~+-]+", line.strip()):
                    packages += 1
                elif not line.startswith("go: downloading "):
                    words.append(line)
                if time.monotonic() - told >= PROGRESS_INTERVAL:
                    told = time.monotonic()
                    progress(f"{name}: {packages} packages compiled")
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise OperatorError(
            f"go could not build {name}:\n{''.join(words[-30:]).rstrip()}",
            code="E704",
            hint=f"the command was: cd {cwd} && {' '.join(command[:2])} … {command[-1]}; run the same again to go on",
        )


def _go_version(needed: str) -> str:
    """`go version`. Raises OperatorError E702 when there is no Go or it is older than `needed`."""
    hint = f"install Go {needed} or newer (https://go.dev/dl/) and put it on PATH, or build without --from-source"
    try:
        text = subprocess.run(["go", "version"], capture_output=True, text=True, check=True).stdout.strip()
    except FileNotFoundError:
        raise OperatorError("there is no Go on this machine", code="E702", hint=hint) from None
    found = re.search(r"go(\d+)\.(\d+)", text)
    if found is None or tuple(map(int, found.groups())) < tuple(map(int, needed.split("."))):
        raise OperatorError(f"this Go is too old: {text}", code="E702", hint=hint)
    return text


def _library_version(name: str, cgo: Mapping[str, str]) -> str:
    """Version of the C library and the compiler. Raises OperatorError E702 when one is missing."""
    versions = []
    for command in (["pkg-config", "--modversion", cgo["library"]], ["cc", "--version"]):
        found = shutil.which(command[0])
        result = subprocess.run(command, check=False, capture_output=True, text=True) if found else None
        if result is None or result.returncode != 0:
            raise OperatorError(
                f"{name} is built with C and {cgo['library']}, which this machine lacks",
                code="E702",
                hint=f"apt-get install {cgo['packages']}",
            )
        versions.append(result.stdout.splitlines()[0])
    return ", ".join(versions)


def _write_archive(target: Path, members: Mapping[str, Path]) -> None:
    """A tar.gz of executables, in the order of their names, without dates and owners."""
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for name in sorted(members):
            info = tarfile.TarInfo(name)
            info.size, info.mode = members[name].stat().st_size, 0o755
            with members[name].open("rb") as content:
                tar.addfile(info, content)
