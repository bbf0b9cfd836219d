"""The rendered model: what each machine's pillar is. The engine is reclass-rs.

Stands between the repository (files) and every consumer: the CLI, Salt's ext_pillar, images, manifests. Secrets stay
tokens here; `secrets.Keyring.reveal` opens them where they are used.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reclass_model.errors import OperatorError, Problem
from reclass_model.repository import Repository

_REQUIRED: Any = object()
_BROKEN_MACHINES = 10  #: as many machines that cannot be rendered are told, then rendering stops


@dataclass(frozen=True)
class Node:
    """One machine, rendered."""

    name: str
    classes: tuple[str, ...]  #: every class, in the order of merging
    applications: tuple[str, ...]  #: Salt states, in the order they run
    parameters: dict[str, Any]  #: the pillar, with `_reclass_`

    @property
    def runs_pods(self) -> bool:
        """Whether a kubelet runs there."""
        return "kubernetes.pool" in self.applications

    @property
    def labels(self) -> Mapping[str, Any] | None:
        """Those of its Kubernetes Node; None where no kubelet runs."""
        return get(self.parameters, "kubernetes:pool:labels", {}) if self.runs_pods else None


class Inventory:
    """All machines of a repository."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._nodes_dir = repository.nodes_dir
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @cached_property
    def _engine(self) -> Any:
        # Where it is set, the engine would record one for each of its inner errors and take twice as long.
        os.environ["RUST_BACKTRACE"] = "0"
        import reclass_rs

        for directory in (self.repository.nodes_dir, self.repository.classes_dir):
            if not directory.is_dir():
                raise OperatorError(
                    f"{directory} does not exist",
                    code="E002",
                    hint="is this a deployment repo?",
                )
        return reclass_rs.Reclass(
            inventory_path=str(self.repository.root),
            nodes_path=str(self._nodes_dir),
            classes_path=str(self.repository.classes_dir),
        )

    def node(self, name: str) -> Node:
        """Render one machine as its files are now.

        Raises OperatorError E003 for an unknown machine, E1xx with file and line for what cannot be rendered.
        """
        try:
            return _node(name, self._render(name))
        except ValueError as error:
            from reclass_model.diagnosis import diagnose

            raise OperatorError.of(diagnose(self.repository, name, str(error))) from None

    def _render(self, name: str) -> dict[str, Any]:
        try:
            return _answer(lambda: self._engine.nodeinfo(name))
        except ValueError:  # the engine's list of files may be older than the files: once more with a new one
            self.__dict__.pop("_engine", None)
            return _answer(lambda: self._engine.nodeinfo(name))

    def nodes(self) -> Iterator[Node]:
        """Every machine, sorted by name, as the files are now.

        Raises OperatorError, after those that can be rendered, with the problems of those that cannot (the first ten).
        """
        self.__dict__.pop("_engine", None)  # its list of files may be older than the files
        try:
            rendered = _answer(lambda: self._engine.inventory())["nodes"]  # all at once, by every processor
        except ValueError:
            yield from self._one_by_one()
            return
        for name in (
            self.repository.node_names()
        ):  # the engine also reads what is no machine's file; `validate` tells
            if name in rendered:
                yield _node(name, rendered.pop(name))

    def _one_by_one(self) -> Iterator[Node]:
        problems: list[Problem] = []
        broken = 0
        for name in self.repository.node_names():
            try:
                yield self.node(name)
            except OperatorError as error:
                problems += error.problems
                broken += 1
                if broken == _BROKEN_MACHINES:
                    break
        if problems:
            raise OperatorError.of(*dict.fromkeys(problems))

    def config_node(self) -> Node:
        """The one machine that carries the overlay, rendered when first asked for: every part of a command asks.

        Raises OperatorError E205 unless there is exactly one.
        """
        return self._config_node

    @cached_property
    def _config_node(self) -> Node:
        from reclass_model.sources import CONFIG_ROLE, Sources

        names = Sources(self.repository).config_machines()
        if len(names) != 1:
            raise OperatorError.of(
                Problem(
                    "E205",
                    f"{len(names)} machines have the class {CONFIG_ROLE}: {', '.join(names) or 'none'}",
                    hint="exactly one machine builds images and runs rollouts",
                )
            )
        return self.node(names[0])

    def with_parameters(self, parameters: Mapping[str, Any]) -> Inventory:
        """The same model with some `_param` overridden on every machine, e.g. {"openstack_version": "…"}."""
        from reclass_model.sources import override_parameters

        return self._with_nodes(lambda text: override_parameters(text, parameters))

    def with_class(self, name: str) -> Inventory:
        """The same model with one more class on every machine, over its others."""
        from reclass_model.document import with_class

        return self._with_nodes(lambda text: with_class(text, name))

    def _with_nodes(self, change: Callable[[str], str]) -> Inventory:
        """The same model with the text of every machine's file changed."""
        other = Inventory(self.repository)
        other._temporary = tempfile.TemporaryDirectory(prefix="ostack-k8s-")
        other._nodes_dir = Path(other._temporary.name)
        for name in self.repository.node_names():
            text = change(self.repository.node_file(name).read_text())
            (other._nodes_dir / f"{name}.yml").write_text(text)
        return other


def _answer(ask: Callable[[], Any]) -> dict[str, Any]:
    """What the engine answers. ValueError where it cannot render, however it says so."""
    try:
        return ask().as_dict()  # type: ignore[no-any-return]
    except TypeError as error:  # a key that Python cannot hash
        raise ValueError(str(error)) from None
    except BaseException as error:
        if (
            type(error).__name__ != "PanicException"
        ):  # a tag: Rust's panics are no Exception, and cannot be imported
            raise
        raise ValueError(str(error)) from None


def _node(name: str, rendered: dict[str, Any]) -> Node:
    """What the engine rendered, with the key that Salt's top file reads."""
    classes, applications = rendered["classes"], rendered["applications"]
    parameters = {
        str(key): value for key, value in rendered["parameters"].items()
    }  # YAML has keys that are numbers
    parameters["_reclass_"] = {
        "name": {"full": name},
        "environment": "base",
        "applications": applications,
        "classes": classes,
    }
    return Node(name, tuple(classes), tuple(applications), parameters)


def selects(workload: Mapping[str, Any], labels: Mapping[str, Any] | None) -> bool:
    """Whether a machine with these labels (None: it runs no pods) is one that the workload's `node_selector` allows."""
    selector = workload.get("node_selector") or {}
    return labels is not None and all(
        str(labels.get(key)) == str(value) for key, value in selector.items() if value is not None
    )


def get(parameters: Mapping[str, Any], path: str, default: Any = _REQUIRED) -> Any:
    """The value at "a:b:c".

    Raises OperatorError E104 when it is not there and no default is given. A null in the way counts as not there.
    """
    value: Any = parameters
    for key in path.split(":"):
        if not isinstance(value, Mapping) or key not in value:
            if default is _REQUIRED:
                raise OperatorError(
                    f"the model has no {path!r}",
                    code="E104",
                    hint=f"{key!r} is missing",
                )
            return default
        value = value[key]
    return value
