"""What an image is: pillar → package image → baked image. Pure: no Docker, no registry, no clock.

A *package image* is a chain of installed packages with fixed users (slow, built rarely). A *baked image* is a
package image plus the rendered configuration (a tenth of a second). Both are named by the digest of their
inputs, so a plan knows every tag offline, and the same inputs never give a second tag.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from openstack_images.lock import Lock
from reclass_model.configuration import render
from reclass_model.errors import OperatorError, Problem
from reclass_model.secrets import is_secret

#: Raised when the same inputs begin to give another image (the way of installing or of baking changed).
PACKAGE_FORMAT = 1
BAKE_FORMAT = 2

#: Every chain of package images starts here: the smallest system of a suite.
ROOT = "debian"


@dataclass(frozen=True)
class Package:
    """A package that a layer asks for by name; what it brings along is in the lock."""

    name: str
    version: str  #: what the version must begin with ("2:27."); "" for any


@dataclass(frozen=True)
class User:
    """The user that an image's processes run as, made before its packages: Debian's numbers drift."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True)
class Sources:
    """Where packages come from beside the suite. No input of the digest: the locked versions are."""

    extra_suites: tuple[tuple[str, int], ...] = ()  #: (suite, pin priority)
    check_valid_until: bool = True  #: false for suites whose mirror may be frozen


@dataclass(frozen=True)
class PackageImage:
    """One layer of packages on another package image (or, with no base, the suite's smallest system)."""

    name: str
    release: str | None  #: None for infrastructure and shared bases
    version: str  #: what people know the release by ("2025.1"), else the suite; no input of the digest
    suite: str
    base: PackageImage | None
    packages: tuple[Package, ...]
    sources: Sources
    user: User | None = None
    directories: tuple[tuple[str, str], ...] = ()  #: (path, octal mode), owned by the user
    remove: tuple[str, ...] = ()
    #: Packages that others ask for and that are left out. No input of the digest: the locked versions are.
    without: tuple[str, ...] = ()
    locked: Mapping[str, str] | None = (
        None  #: exact versions of everything this layer installs; None: not locked
    )

    @cached_property
    def digest(self) -> str:
        return _digest(
            {
                "format": PACKAGE_FORMAT,
                "suite": self.suite,
                "base": self.base.digest if self.base else None,
                "packages": [package.name for package in self.packages],
                "user": [self.user.name, self.user.uid, self.user.gid, self.user.home] if self.user else None,
                "directories": self.directories,
                "remove": self.remove,
                "locked": self.locked,
            }
        )

    @property
    def tag(self) -> str:
        return f"{self.release or self.suite}-{self.digest[:12]}"

    @property
    def chain(self) -> tuple[PackageImage, ...]:
        """This image and those below it, the lowest first."""
        return (*self.base.chain, self) if self.base else (self,)

    def __str__(self) -> str:
        return f"{self.name} ({self.release or self.suite})"


@dataclass(frozen=True)
class ConfigFile:
    """A rendered file of an image."""

    path: str
    mode: int
    text: str


@dataclass(frozen=True)
class BakedImage:
    """A package image with its configuration, as the registry serves it to the cluster."""

    role: str  #: pillar path, "<system>:<role>"
    package: PackageImage
    files: tuple[ConfigFile, ...]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    registry: str  #: "host:port"

    @property
    def name(self) -> str:
        return self.package.name

    @property
    def release(self) -> str | None:
        return self.package.release

    @property
    def user(self) -> User | None:
        return self.package.user

    @cached_property
    def digest(self) -> str:
        return _digest(
            {
                "format": BAKE_FORMAT,
                "package": self.package.digest,
                "files": [[file.path, file.mode, file.text] for file in self.files],
                "entrypoint": self.entrypoint,
                "command": self.command,
            }
        )

    @property
    def tag(self) -> str:
        return f"{self.release or self.package.suite}-{self.digest[:12]}"

    @property
    def reference(self) -> str:
        return f"{self.registry}/{self.name}:{self.tag}"


def images(parameters: Mapping[str, Any], lock: Lock, registry: str) -> dict[str, BakedImage]:
    """Every image of a pillar, by the pillar path of its role. `registry` is "host:port".

    OperatorError E501, E502 for what is no image, E503 for a secret in its configuration.
    """
    reader = _Reader(parameters, lock)
    return {role: reader.baked(role, image, registry) for role, image in _declared(parameters)}


def _declared(parameters: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for system in sorted(parameters):
        roles = parameters[system]
        for role in sorted(roles, key=str) if isinstance(roles, Mapping) else ():
            image = roles[role].get("image") if isinstance(roles[role], Mapping) else None
            if isinstance(image, Mapping):
                yield f"{system}:{role}", image


class _Reader:
    """Reads the image contract out of one pillar."""

    def __init__(self, parameters: Mapping[str, Any], lock: Lock) -> None:
        openstack = parameters.get("openstack") or {}
        self._releases: Mapping[str, Any] = openstack.get("release") or {}
        self._bases: Mapping[str, Any] = openstack.get("base_image") or {}
        self._lock = lock

    def baked(self, role: str, image: Mapping[str, Any], registry: str) -> BakedImage:
        path = f"{role}:image"
        user = self._user(image, path)
        owned = [directory for directory, _ in _entries(image, "directories", path)]
        for name, _ in _entries(image, "config", path):
            if any(name.startswith(f"{directory}/") for directory in owned):
                raise _wrong(
                    f"{name} lies in a directory of the user", f"{path}:config:{name}", "put it below /etc"
                )
        return BakedImage(
            role=role,
            package=self._role_package(role.replace(":", "-"), image, user, path),
            files=tuple(
                self._file(name, file, f"{path}:config:{name}")
                for name, file in _entries(image, "config", path)
            ),
            entrypoint=_words(image, "entrypoint", path),
            command=_words(image, "command", path),
            registry=registry,
        )

    def _role_package(
        self, name: str, image: Mapping[str, Any], user: User | None, path: str
    ) -> PackageImage:
        release = image.get("release")
        if release is not None and release not in self._releases:
            raise _wrong(
                f"unknown release {release!r}",
                f"{path}:release",
                f"one of: {', '.join(sorted(self._releases))}",
            )
        suite = image.get("suite")
        if not isinstance(suite, str):
            raise _wrong(
                f"an image needs a suite, not {suite!r}", f"{path}:suite", "a Debian suite, e.g. trixie"
            )
        sources = self._sources({**self._releases.get(release or "", {}), **image}, path)
        if user is None and image.get("directories"):
            raise _wrong(
                "directories need a user to own them", f"{path}:user", "user: {name: …, uid: …, gid: …}"
            )
        base = self._base(image.get("base") or ROOT, suite, sources, f"{path}:base")
        return PackageImage(
            name=name,
            release=release,
            version=str(self._releases.get(release or "", {}).get("version") or release or suite),
            suite=suite,
            base=base,
            packages=_packages(image, path),
            sources=sources,
            user=user,
            directories=tuple(
                (directory, str(options.get("mode") or "0750"))
                for directory, options in _entries(image, "directories", path)
            ),
            remove=_names(image, "remove", path),
            without=_without(image, base, path),
            locked=self._lock.versions(name, suite),
        )

    def _base(
        self, name: str, suite: str, sources: Sources, path: str, above: tuple[str, ...] = ()
    ) -> PackageImage:
        if name in above:
            raise _wrong(f"base images stand on each other: {' → '.join((*above, name))}", path)
        if name != ROOT and name not in self._bases:
            raise _wrong(
                f"unknown base image {name!r}", path, f"one of: {', '.join(sorted({ROOT, *self._bases}))}"
            )
        declared = self._bases.get(name) or {}
        own = f"openstack:base_image:{name}"
        below = (
            None
            if name == ROOT
            else self._base(declared.get("base") or ROOT, suite, sources, f"{own}:base", (*above, name))
        )
        return PackageImage(
            name=name,
            release=None,
            version=suite,
            suite=suite,
            base=below,
            packages=_packages(declared, own),
            sources=sources,
            remove=_names(declared, "remove", own),
            without=_without(declared, below, own),
            locked=self._lock.versions(name, suite),
        )

    def _sources(self, values: Mapping[str, Any], path: str) -> Sources:
        extra = tuple(
            (suite, int(options.get("priority", 100)))
            for suite, options in _entries(values, "extra_suites", path)
        )
        return Sources(extra, values.get("check_valid_until") is not False)

    def _user(self, image: Mapping[str, Any], path: str) -> User | None:
        user = image.get("user")
        if user is None:
            return None
        try:
            return User(
                user["name"],
                int(user["uid"]),
                int(user["gid"]),
                user.get("home") or f"/var/lib/{user['name']}",
            )
        except (KeyError, TypeError, ValueError):
            raise _wrong(f"not a user: {user!r}", f"{path}:user", "user: {name: …, uid: …, gid: …}") from None

    def _file(self, name: str, file: Mapping[str, Any], path: str) -> ConfigFile:
        if not name.startswith("/"):
            raise _wrong(f"the file {name!r} needs an absolute path", path)
        try:
            text = render(file.get("format") or "ini", file.get("data"))
            mode = int(str(file.get("mode") or "0640"), 8)
        except OperatorError as error:
            raise OperatorError.of(
                Problem(error.code, str(error.args[0]), path=f"{path}:data", hint=error.problems[0].hint)
            ) from None
        except ValueError:
            raise _wrong(
                f"not a file mode: {file.get('mode')!r}", f"{path}:mode", 'an octal string, e.g. "0640"'
            ) from None
        if is_secret(text):
            raise OperatorError.of(
                Problem(
                    "E503",
                    f"a secret would be baked into the image: {name}",
                    path=f"{path}:data",
                    hint="images are static; move it to kubernetes:control:workload:<name>:secret",
                )
            )
        return ConfigFile(name, mode, text)


def _packages(values: Mapping[str, Any], path: str) -> tuple[Package, ...]:
    return tuple(
        Package(name, str(options.get("version") or ""))
        for name, options in _entries(values, "packages", path)
    )


def _names(values: Mapping[str, Any], key: str, path: str) -> tuple[str, ...]:
    return tuple(name for name, _ in _entries(values, key, path))


def _without(values: Mapping[str, Any], base: PackageImage | None, path: str) -> tuple[str, ...]:
    """What a layer or one below it leaves out, but for what it asks for by name."""
    left_out = {*_names(values, "without", path), *(base.without if base else ())}
    return tuple(sorted(left_out - {package.name for package in _packages(values, path)}))


def _words(values: Mapping[str, Any], key: str, path: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(values.get(key) or ""))
    except (ValueError, AttributeError) as error:
        raise _wrong(f"not a command line: {values[key]!r}: {error}", f"{path}:{key}") from None


def _entries(values: Mapping[str, Any], key: str, path: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The entries of a mapping of mappings, sorted, without those set to null."""
    entries = values.get(key) or {}
    if not isinstance(entries, Mapping):
        raise _wrong(f"a mapping is needed, not {entries!r}", f"{path}:{key}", "{<name>: {}, …}")
    for name, options in entries.items():
        if not isinstance(options, Mapping | None):
            raise _wrong(
                f"a mapping is needed, not {options!r}",
                f"{path}:{key}:{name}",
                "{} when there is nothing to say",
            )
    return [(name, entries[name]) for name in sorted(entries) if entries[name] is not None]


def _wrong(message: str, path: str, hint: str | None = None) -> OperatorError:
    return OperatorError.of(Problem("E502", message, path=path, hint=hint))


def _digest(inputs: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
