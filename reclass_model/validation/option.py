"""Does the release know these options, and do the values suit? Files of the format `oslo`, and OS_<SECTION>__<OPTION>.

What a release does not know is a warning: the list is of the packages as they were read, the operator may know
better. A value of a wrong type is an error: the process would not start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from reclass_model.endpoints import WORKLOADS
from reclass_model.errors import Problem
from reclass_model.inventory import Node, get
from reclass_model.options import Catalog, Options, of_variable
from reclass_model.provenance import Setting, locate, origin
from reclass_model.repository import Repository
from reclass_model.secrets import mask
from reclass_model.sources import Sources
from reclass_model.validation.release import image_releases

FORMAT = "oslo"  #: of a configuration file whose options are looked up
_Find = Callable[..., Setting | None]


def option_problems(config: Node, repository: Repository, sources: Sources) -> Iterator[Problem]:
    """What is wrong with the options of the config machine's images and workloads."""
    checker = _Checker(config, repository, sources)
    for role in checker.releases:
        yield from checker.files(role, f"{role}:image:config")
    for name, workload in _present(get(config.parameters, WORKLOADS, None)).items():
        path = f"{WORKLOADS}:{name}"
        yield from checker.workload(str(workload.get("image")), path)
        for job, entry in _present(workload.get("job")).items():
            yield from checker.workload(str(entry.get("image") or workload.get("image")), f"{path}:job:{job}")


class _Checker:
    def __init__(self, config: Node, repository: Repository, sources: Sources) -> None:
        self.config, self.repository, self.sources = config, repository, sources
        self.releases = image_releases(config.parameters)  #: image role → release
        self._catalog = cache(lambda release: Catalog.of(repository, release))

    def workload(self, role: str, path: str) -> Iterator[Problem]:
        """The Secret files and the environment of a workload, or of a Job, that runs this image."""
        yield from self.files(role, f"{path}:secret")
        for variable, value in _present(get(self.config.parameters, f"{path}:environment", None)).items():
            if (meant := of_variable(variable)) and not isinstance(value, Mapping):
                yield from self._option(role, *meant, value, f"{path}:environment:{variable}")

    def files(self, role: str, path: str) -> Iterator[Problem]:
        for name, file in _present(get(self.config.parameters, path, None)).items():
            if not isinstance(file, Mapping) or file.get("format") != FORMAT:
                continue
            for section, options in _present(file.get("data")).items():
                for option, value in _present(options).items():
                    yield from self._option(
                        role, section, option, value, f"{path}:{name}:data:{section}:{option}"
                    )

    def _option(self, role: str, section: str, name: str, value: Any, path: str) -> Iterator[Problem]:
        release = self.releases.get(role)
        known = self._catalog(release).options(role.replace(":", "-")) if release else None
        if known is None:
            return
        alike = get(self.config.parameters, f"{role}:image:sections:{section}", None)
        if alike is not None and "like" not in alike:
            return
        option = known.find(section, name) or (known.find(alike["like"], name) if alike else None)
        if option is None:
            what = f"{role} knows no option [{section}] {name} in {release}"
            yield self._at(locate, path, "W111", what, _nearest(known, section, name))
            return
        if option.renamed:
            what = f"[{section}] {name} has another name in {release}"
            yield self._at(locate, path, "W112", what, f"write {option}")
        if wanted := option.refuses(value):
            what = f"[{section}] {name} cannot be {mask(value)!r} in {release}"
            yield self._at(origin, path, "E114", what, f"it takes {wanted}")

    def _at(self, find: _Find, path: str, code: str, message: str, hint: str | None) -> Problem:
        place = find(self.repository, self.config.name, path, sources=self.sources)
        file, line = (place.file, place.line) if place else (None, None)
        return Problem(code, message, self.config.name, path, file, line, hint)


def _nearest(known: Options, section: str, name: str) -> str | None:
    """The option that was meant: of this section, else of this name elsewhere, else of a section that reads alike."""
    own = known.section(section)
    if own and (close := get_close_matches(name, known.sections[own], 1, 0.6)):
        return f"did you mean `[{own}] {close[0]}`?"
    elsewhere = sorted(other for other, options in known.sections.items() if name in options)
    close = get_close_matches(section, elsewhere or known.sections, 1, 0 if elsewhere else 0.6)
    if not close:
        return None
    return f"did you mean `[{close[0]}] {name}`?" if elsewhere else f"did you mean `[{close[0]}]`?"


def _present(mapping: Any) -> dict[str, Any]:
    """The entries that were not deleted; nothing for what is no mapping (a schema speaks of that)."""
    if not isinstance(mapping, Mapping):
        return {}
    return {str(name): value for name, value in mapping.items() if value is not None}
