"""Package images on a Docker host: the slow layer, made rarely, from the locked versions.

A `Builder` drives one Docker host through the `docker` client (so contexts, ssh:// hosts and credentials work
as the operator knows them). The smallest system of a suite comes from mmdebstrap; every other layer is a
BuildKit build of `install.sh`. An image is tagged on the host only when it is complete, under the digest of
its inputs: what has the tag is right, and an interrupted build leaves none.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import resources
from typing import IO, Any

from openstack_images.definition import PackageImage
from reclass_model.errors import OperatorError, Problem

#: No file of the smallest system is newer than this (seconds since 1970): the same packages, the same bytes.
SOURCE_DATE_EPOCH = 1767225600

_MISSING = re.compile(
    r"E: (?:Version '(?P<version>[^']+)' for '(?P<pinned>[^']+)' was not found"
    r"|Unable to locate package (?P<name>\S+))"
)
_VANISHED = re.compile(r"E: Failed to fetch (\S+)\s+404 ")
_NO_NETWORK = re.compile(
    r"(Temporary failure resolving|Could not resolve|Could not connect|Connection failed|Connection timed out"
    r"|Network is unreachable|Failed to fetch|Some index files failed to download)"
)
_NO_SPACE = "no space left on device"
_STEPS = {"Get:": "downloaded", "Unpacking ": "unpacked", "Setting up ": "set up"}  #: words of apt → ours
_SECONDS_BETWEEN = 5  #: two lines of progress of one image


class Builder:
    """One Docker host. Nothing is contacted before the first call that needs it."""

    def __init__(self, host: str | None = None, mirror: str | None = None) -> None:
        """URLs of a Docker host (None: the client's own) and a package mirror (None: the default)."""
        self.host = host
        self._mirror = mirror
        self._running: set[subprocess.Popen[bytes]] = set()

    def stop(self) -> None:
        """End what other threads run here; they get an OperatorError. No image has a tag before it is complete."""
        for process in tuple(self._running):
            process.terminate()

    # -- what is there --------------------------------------------------------------------------------------
    def has(self, image: PackageImage) -> bool:
        return bool(self._run("image", "ls", "--quiet", "--no-trunc", local_reference(image)).strip())

    def inspect(self, image: PackageImage) -> dict[str, Any]:
        """The image as `docker image inspect` tells it."""
        inspected: list[dict[str, Any]] = json.loads(self._run("image", "inspect", local_reference(image)))
        return inspected[0]

    def installed(self, identity: str) -> dict[str, str]:
        """Package → version in an image of the host, given by its id."""
        listing = self._run(
            "run", "--rm", "--network", "none", identity, "dpkg-query", "-W", "-f", "${Package}=${Version}\\n"
        )
        return dict(_pairs(listing.splitlines()))

    def current_root(self, image: PackageImage) -> str | None:
        """The id of a smallest system of this suite that is as the mirror would make it today; None: make it."""
        made = self._run("image", "ls", "--quiet", "--no-trunc", f"ostack-k8s/{image.name}:{image.suite}-*")
        if not made:
            return None
        newest = made.split()[0]
        changed = self._install_script(
            newest, {**_instructions(image), "mirror": self._mirror or ""}, "changed"
        )
        return None if changed.strip() else newest

    def ask(self, image: PackageImage, program: str, *arguments: str) -> str:
        """What a Python program prints that runs in a container of the image, without a network."""
        return self._run(
            "run", "--rm", "--interactive", "--network", "none", "--entrypoint", "python3",
            local_reference(image), "-", *arguments,
            stdin=program.encode(), what=f"asking {image}",
        )  # fmt: skip

    def save(self, image: PackageImage, file: IO[bytes]) -> None:
        """Write the image as `docker save` does."""
        what = f"saving {image} in {tempfile.gettempdir()}"
        self._run("image", "save", local_reference(image), stdout=file, what=what)

    # -- making ---------------------------------------------------------------------------------------------
    def build(self, image: PackageImage, progress: Callable[[str], None]) -> None:
        """Make this image; the host has its base. OperatorError E513 names packages the mirror lacks."""
        if image.base is None:
            identity = self.import_root(image)
            self._check_installed(image, self.installed(identity))
            self.tag(identity, image)
            return
        files = {**_instructions(image), "Dockerfile": _dockerfile(image, image.base)}
        self._run(
            "build", "--network", "host", "--progress", "plain", "--tag", local_reference(image), "-",
            stdin=_tar(files), what=f"building {image}", watch=_watch(image, progress),
        )  # fmt: skip

    def import_root(self, image: PackageImage) -> str:
        """Make the smallest system of a suite from today's mirror; the id it has on the host, no tag yet."""
        with tempfile.TemporaryFile() as archive:
            self._bootstrap(image, archive)
            archive.seek(0)
            return self._run(
                "import", *_changes(image), "-", stdin=archive, what=f"importing {image}"
            ).strip()

    def tag(self, identity: str, image: PackageImage) -> None:
        self._run("tag", identity, local_reference(image))

    def holds(self, reference: str) -> bool:
        """Whether the host has an image of this name, whoever made it."""
        return bool(self._run("image", "ls", "--quiet", "--no-trunc", reference).strip())

    def assemble(self, reference: str, context: bytes, what: str) -> None:
        """Build a context (a tar with its Dockerfile) that installs nothing into an image of this name."""
        self._run("build", "--network", "none", "--quiet", "--tag", reference, "-", stdin=context, what=what)

    def resolve(self, identity: str, layers: Sequence[PackageImage]) -> dict[str, dict[str, str]]:
        """What apt would install today for each layer over its base, on the smallest system `identity`.

        Bases come before what stands on them, all have the same sources. Image name → package → version.
        """
        files = _instructions(layers[0]) if layers else {}
        for layer in layers:
            files[f"layers/{layer.name}"] = _lines(package.name for package in layer.packages)
            files[f"layers/{layer.name}.without"] = _lines(layer.without)
            if layer.base is not None and layer.base.base is not None:
                files[f"base/{layer.name}"] = layer.base.name
        names = [layer.name for layer in layers]
        output = self._install_script(identity, files, "resolve", *names)
        closures: dict[str, dict[str, str]] = {}
        for line in output.splitlines():
            if line.startswith("resolved "):
                closure = closures.setdefault(line.removeprefix("resolved "), {})
            else:
                closure.update(_pairs([line]))
        return closures

    def _install_script(self, identity: str, files: Mapping[str, str], *arguments: str) -> str:
        """What install.sh says in a container of an image, with the network."""
        return self._run(
            "run", "--rm", "--interactive", "--network", "host", identity,
            "sh", "-c", 'mkdir /build && tar -x -C /build && sh /build/install.sh "$@"', "sh", *arguments,
            stdin=_tar(files), what=f"asking the mirror: {' '.join(arguments)}",
        )  # fmt: skip

    def _bootstrap(self, image: PackageImage, archive: IO[bytes]) -> None:
        program = shutil.which("mmdebstrap")
        if program is None:
            raise OperatorError("mmdebstrap is not installed", code="E510", hint="apt-get install mmdebstrap")
        command = [
            program,
            "--quiet",
            "--variant=minbase",
            '--aptopt=APT::Install-Recommends "false"',
            '--aptopt=Acquire::Retries "3"',
        ]
        if not image.sources.check_valid_until:
            command.append('--aptopt=Acquire::Check-Valid-Until "false"')
        if image.packages:
            command.append(f"--include={','.join(package.name for package in image.packages)}")
        command += [
            '--customize-hook=: > "$1/etc/machine-id"; find "$1/var/log" -type f -delete',
            image.suite,
            "-",
            *([self._mirror] if self._mirror else []),
        ]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH)}
        with self._process(command, environment, stdout=archive) as process:
            _, said = process.communicate()
        if process.returncode != 0:
            raise _failed(f"making {image}", command, said.decode(errors="replace"))

    def _check_installed(self, image: PackageImage, installed: Mapping[str, str]) -> None:
        expected = image.locked or {}
        differing = [
            f"{name} {installed.get(name, 'absent')} (locked {expected.get(name, 'absent')})"
            for name in sorted({*expected, *installed})
            if installed.get(name) != expected.get(name)
        ]
        if differing:
            raise _moved(image, differing)

    # -- the docker client ----------------------------------------------------------------------------------
    @cached_property
    def _client(self) -> str:
        """A docker client that can build with BuildKit: it has it built in (before 23), or has buildx."""
        directories = dict.fromkeys(os.environ.get("PATH", os.defpath).split(os.pathsep))
        clients = [client for directory in directories if (client := shutil.which("docker", path=directory))]
        if not clients:
            raise OperatorError(
                "no docker client on this machine", code="E510", hint="apt-get install docker.io"
            )
        for client in clients:
            probe = subprocess.run(
                [client, "build", "--help"],
                check=False,
                capture_output=True,
                text=True,
                env=self._environment,
            )
            if probe.returncode == 0 and "BuildKit is enabled but" not in probe.stderr:
                return client
        raise OperatorError(
            f"{clients[0]} cannot build with BuildKit",
            code="E510",
            hint="apt-get install docker-buildx (or docker-buildx-plugin)",
        )

    @cached_property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_BUILDKIT": "1", **({"DOCKER_HOST": self.host} if self.host else {})}

    def _run(
        self,
        *arguments: str,
        stdin: IO[bytes] | bytes | None = None,
        stdout: IO[bytes] | int = subprocess.PIPE,
        what: str | None = None,
        watch: Callable[[str], None] | None = None,
    ) -> str:
        """Run the docker client; its output. OperatorError E51x when that fails; `what` was being done.

        `watch` is given each line that the client says on the way.
        """
        command = [self._client, *arguments]
        with tempfile.TemporaryFile() as given:
            if isinstance(stdin, bytes):
                given.write(stdin)
                given.seek(0)
            source = stdin if stdin is not None and not isinstance(stdin, bytes) else given
            with self._process(command, self._environment, stdin=source, stdout=stdout) as process:
                said = [*_lines_of(process, watch)] if watch else []
                answer, told = process.communicate()
        output = (answer or b"").decode(errors="replace")
        if process.returncode != 0:
            messages = (b"".join(said) + told).decode(errors="replace")
            if "Cannot connect to the Docker daemon" in messages or "error during connect" in messages:
                raise OperatorError(
                    f"no Docker answers at {self.host or 'the default Docker host'}",
                    code="E511",
                    hint="start it, or name another builder with _param:builder; apt-get install docker.io",
                )
            raise _failed(what or f"docker {arguments[0]}", command, output + messages)
        return output

    @contextmanager
    def _process(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
        stdout: IO[bytes] | int = subprocess.PIPE,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A program that `stop` ends."""
        with subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=environment
        ) as process:
            self._running.add(process)
            try:
                yield process
            except BaseException:
                process.terminate()
                raise
            finally:
                self._running.discard(process)


def local_reference(image: PackageImage) -> str:
    """The image's name on the builder."""
    return f"ostack-k8s/{image.name}:{image.tag}"


def labels(image: PackageImage) -> dict[str, str]:
    """What the image says of itself."""
    told = {
        "org.opencontainers.image.title": image.name,
        "org.opencontainers.image.version": image.version,
        "org.opencontainers.image.base.name": local_reference(image.base) if image.base else image.suite,
        "io.ostack-k8s.inputs": f"sha256:{image.digest}",
        **({"io.ostack-k8s.release": image.release} if image.release else {}),
    }
    return dict(sorted(told.items()))


def _lines_of(process: subprocess.Popen[bytes], watch: Callable[[str], None]) -> Iterator[bytes]:
    """What a program says on stderr until it closes that, each line also given to `watch`."""
    assert process.stderr is not None
    for line in process.stderr:
        watch(line.decode(errors="replace"))
        yield line


def _watch(image: PackageImage, progress: Callable[[str], None]) -> Callable[[str], None]:
    """Counts what apt does in an image's build; a line of progress every few seconds."""
    total = len(image.locked or {})
    counted = dict.fromkeys(_STEPS, 0)
    told = time.monotonic()

    def watch(line: str) -> None:
        nonlocal told
        step = next((step for step in _STEPS if f" {step}" in line), None)
        if step is None:
            return
        counted[step] += 1
        if time.monotonic() - told >= _SECONDS_BETWEEN:
            told = time.monotonic()
            progress(f"{image}: {_STEPS[step]} {counted[step]} of {total} packages")

    return watch


def _changes(image: PackageImage) -> Iterable[str]:
    for change in [
        "ENV LC_ALL=C.UTF-8",
        *(f"LABEL {key}={json.dumps(value)}" for key, value in labels(image).items()),
    ]:
        yield from ("--change", change)


def _dockerfile(image: PackageImage, base: PackageImage) -> str:
    mounts = " ".join(
        [
            "--mount=type=bind,target=/build",
            # private: a build never waits for another one; there are as many caches as builds at a time
            f"--mount=type=cache,id=ostack-k8s-apt-{image.suite},target=/var/cache/apt,sharing=private",
            f"--mount=type=cache,id=ostack-k8s-apt-lists-{image.suite},target=/var/lib/apt/lists,sharing=private",
        ]
    )
    return "\n".join(
        [
            f"FROM {local_reference(base)}",
            f'RUN {mounts} ["/bin/sh", "/build/install.sh", "install"]',
            *(f"LABEL {key}={json.dumps(value)}" for key, value in labels(image).items()),
            "",
        ]
    )


def _instructions(image: PackageImage) -> dict[str, str]:
    """The files that install.sh reads."""
    user = image.user
    locked = image.locked or {}
    options = [
        'Acquire::Languages "none";',
        'Acquire::Retries "3";',
        'APT::Update::Error-Mode "any";',
        'DPkg::Options:: "--force-unsafe-io";',  # an image that was not finished is thrown away
        *([] if image.sources.check_valid_until else ['Acquire::Check-Valid-Until "false";']),
    ]
    return {
        "install.sh": resources.files(__package__).joinpath("install.sh").read_text(),
        "sources": _lines(f"{suite} {priority}" for suite, priority in image.sources.extra_suites),
        "apt.conf": _lines(options),
        "packages": _lines(f"{name}={version}" for name, version in sorted(locked.items())),
        # what an older lock has of these is installed as it says
        "without": _lines(name for name in image.without if name not in locked),
        "user": f"{user.name} {user.uid} {user.gid} {user.home}\n" if user else "",
        "directories": _lines(f"{mode} {path}" for path, mode in image.directories),
        "remove": _lines(image.remove),
    }


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _tar(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in sorted(files.items()):
            content = text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _pairs(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        name, separator, version = line.strip().partition("=")
        if separator:
            yield name, version


def _moved(image: PackageImage, packages: Sequence[str]) -> OperatorError:
    problems = [
        Problem(
            "E513",
            f"{image}: the mirror no longer has {package}",
            hint="run `ostack-k8s images lock`, commit images.lock.yml",
        )
        for package in packages
    ]
    return OperatorError.of(*problems)


def _failed(what: str, command: Sequence[str], output: str) -> OperatorError:
    """What went wrong in words, from the output of a program."""
    missing = sorted(
        {
            " ".join(filter(None, match.group("pinned", "name", "version")))
            for match in _MISSING.finditer(output)
        }
    )
    if missing:
        hint = "run `ostack-k8s images lock`, commit images.lock.yml"
        return OperatorError.of(
            *(
                Problem("E513", f"{what}: the mirror does not have {package}", hint=hint)
                for package in missing
            )
        )
    if _NO_SPACE in output.lower():
        return OperatorError(
            f"{what}: the disk is full", code="E512", hint="make room there, and run it again: it goes on"
        )
    if vanished := _VANISHED.findall(output):
        return OperatorError.of(
            *(
                Problem(
                    "E513",
                    f"{what}: the mirror lost {url}",
                    hint="run it again; else `ostack-k8s images lock`",
                )
                for url in sorted(set(vanished))
            )
        )
    if lost := _NO_NETWORK.search(output):
        line = next(line for line in output.splitlines() if lost.group() in line).strip()
        return OperatorError(
            f"{what}: the package mirror cannot be reached: {line}",
            code="E515",
            hint="when it can be again, run it again: it goes on; another mirror: openstack:package_mirror",
        )
    tail = "\n".join(f"    {line}" for line in output.strip().splitlines()[-15:])
    return OperatorError(f"{what} failed: {' '.join(command)}\n{tail}", code="E514")
