"""The services that a new cloud can have: which classes, files and secrets each brings, and what it cannot do without.

All of it is data, template/services.yml. `generate` asks here when it writes the overlay of a new repo.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import PurePath

from reclass_model.nodes import TEMPLATE, template_data
from reclass_model.sources import nearest

SERVICES = "services.yml"
#: Where the tree keeps the file of a service, named as the service.
_OVERLAY = "classes/cluster/NAME/overlay"


@dataclass(frozen=True)
class Service:
    """A service, or a part of one that a cloud may leave out."""

    name: str
    classes: tuple[str, ...]  #: of the library
    secrets: tuple[str, ...]  #: names in secrets.yml, made anew for each cloud
    needs: tuple[str, ...]  #: services that come with it

    @property
    def file(self) -> str | None:
        """What operators may change of it first: the class of the cluster's overlay, if the tree has one."""
        return self.name if (TEMPLATE / "tree" / _OVERLAY / f"{self.name}.yml").is_file() else None


@cache
def services() -> dict[str, Service]:
    """Every service, by name, in the order of template/services.yml."""
    return {
        name: Service(
            name,
            tuple(service.get("class", ())),
            tuple(service.get("secret", ())),
            tuple(service.get("needs", ())),
        )
        for name, service in template_data(SERVICES)["service"].items()
    }


def presets() -> dict[str, tuple[str, ...]]:
    """Choices that have a name."""
    return {name: tuple(chosen) for name, chosen in template_data(SERVICES)["preset"].items()}


def default() -> str:
    """The choice of a cloud that was not asked."""
    return str(template_data(SERVICES)["default"])


def chosen(answer: str) -> tuple[Service, ...]:
    """The services of an answer (a preset, or names with commas between) with all they need, in their order.

    ValueError says which name is unknown.
    """
    known = services()
    wanted = list(presets().get(answer) or (name.strip() for name in answer.split(",")))
    for name in wanted:  # grows while it is read
        if name not in known:
            right = nearest(name, [*presets(), *known]) or f"one of: {', '.join([*presets(), *known])}"
            raise ValueError(f"{name!r} is no service of this library: {right}")
        wanted += [need for need in known[name].needs if need not in wanted]
    return tuple(service for name, service in known.items() if name in wanted)


def owner(path: str) -> Service | None:
    """The service that a file of the tree belongs to."""
    place = PurePath(path)
    return services().get(place.stem) if str(place.parent) == _OVERLAY else None
