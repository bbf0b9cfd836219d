"""A new deployment repo: questions, answers, the tree that follows from them, and its secrets.

The first step of the flow. `files` is pure (the same answers give the same texts), `create` adds what is random
(identities, passwords, certificates), all in a temporary directory that is renamed once it is whole and committed.
"""

from __future__ import annotations

import os
import secrets as random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from ipaddress import IPv4Network
from itertools import combinations
from pathlib import Path
from re import fullmatch
from typing import Any

from reclass_model import document, library, nodes, services
from reclass_model.errors import OperatorError, Problem
from reclass_model.nodes import TEMPLATE, Machine
from reclass_model.repository import SETTINGS_FILE, Repository, write_atomically
from reclass_model.sources import nearest

TREE = TEMPLATE / "tree"
SECRETS = "classes/cluster/NAME/secrets.yml"
TRAILER = "Pristine-Library"  #: marks the commits that hold what init or update wrote, untouched by a person
PASSWORD_BYTES = 24  #: 192 bits; base64url, so that a password is safe in a URL and in SQL


# --- answers ---


@dataclass(frozen=True)
class Answers:
    """What `init` asks. Checked: made by `Answers.of`."""

    cluster_name: str
    cluster_domain: str
    all_in_one: bool
    masters: int
    controllers: int
    computes: int
    openstack_version: str
    openstack_region: str
    services: str  #: a preset of template/services.yml, or names with commas between
    kubernetes_version: str
    underlay_network: str
    pod_network: str
    service_network: str

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Answers:
        """Answers from what was given, defaults for the rest. Raises OperatorError E010 naming every bad one."""
        known = [question.key for question in QUESTIONS]
        problems = [
            Problem(
                "E010",
                f"no question {key!r}",
                path=key,
                hint=nearest(key, known) or f"known: {', '.join(known)}",
            )
            for key in given
            if key not in known
        ]
        values: dict[str, Any] = {}
        for question in QUESTIONS:
            value = given[question.key] if question.key in given else question.default(values)
            try:
                values[question.key] = question.check(value)
            except ValueError as error:
                problems.append(Problem("E010", f"{question.key}: {error}", path=question.key))
                values[question.key] = value
        problems = problems or _overlaps(values)
        if problems:
            raise OperatorError.of(*problems)
        return cls(**values)

    def raw(self) -> dict[str, Any]:
        """As plain data, for `.ostack-k8s.yml` and `--answers`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Question:
    """One thing that `init` asks. `default` and `asked` see the answers before it."""

    key: str
    prompt: str
    default: Callable[[Mapping[str, Any]], Any]
    check: Callable[[Any], Any]  #: text or plain value → checked value; ValueError says what would be right
    asked: Callable[[Mapping[str, Any]], bool] = lambda answers: True


def _matching(pattern: str, right: str, value: Any) -> str:
    if not fullmatch(pattern, str(value)):
        raise ValueError(f"{value!r} is not right: {right}")
    return str(value)


def _count(least: int, most: int, value: Any, odd: bool = False) -> int:
    try:
        number = int(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is no number") from None
    if number < least:
        raise ValueError(f"{number} is too few: at least {least}")
    if number > most:
        raise ValueError(f"{number} is too many: at most {most}, more with `ostack-k8s node add`")
    if odd and number % 2 == 0:
        raise ValueError(
            f"{number} is even: an etcd cluster needs an odd number of members, e.g. {number + 1}"
        )
    return number


def _yes_no(value: Any) -> bool:
    words = {"true": True, "yes": True, "y": True, "false": False, "no": False, "n": False}
    if str(value).lower() not in words:
        raise ValueError(f"{value!r} is neither yes nor no")
    return words[str(value).lower()]


def _network(value: Any) -> str:
    try:
        network = IPv4Network(str(value))
    except ValueError as error:
        raise ValueError(f"{value!r} is no network ({error}); e.g. 10.10.0.0/24") from None
    if network.prefixlen > 24:
        raise ValueError(f"{network} is too small: /24 or larger")
    return str(network)


def _overlaps(values: Mapping[str, Any]) -> list[Problem]:
    """Networks that have addresses in common; told of the one that was asked for later."""
    networks = {key: IPv4Network(value) for key, value in values.items() if key.endswith("_network")}
    return [
        Problem(
            "E010", f"{other}: {second} overlaps {key} {first}", path=other, hint="choose another network"
        )
        for (key, first), (other, second) in combinations(networks.items(), 2)
        if first.overlaps(second)
    ]


def _release(value: Any) -> str:
    known = sorted(
        path.stem for path in (library.CLASSES / "openstack" / "release").glob("*.yml") if path.stem != "init"
    )
    if value not in known:
        raise ValueError(f"{value!r} is no release of this library: {', '.join(known)}")
    return str(value)


def _services(value: Any) -> str:
    services.chosen(str(value))
    return str(value)


_NAME = partial(
    _matching, r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?", "lower-case letters, digits and dashes, e.g. demo"
)
_DOMAIN = partial(_matching, nodes.HOST_NAME, "e.g. demo.local")
_VERSION = partial(_matching, r"\d+\.\d+\.\d+", "three numbers, e.g. 1.36.3")
_REGION = partial(_matching, r"[A-Za-z][-\w]*", "letters and digits, e.g. RegionOne")


def _always(value: Any) -> Callable[[Mapping[str, Any]], Any]:
    return lambda answers: value


def _several_machines(answers: Mapping[str, Any]) -> bool:
    return not answers["all_in_one"]


QUESTIONS: tuple[Question, ...] = (
    Question("cluster_name", "Name of the cloud", _always("demo"), _NAME),
    Question(
        "cluster_domain",
        "Domain of its machines",
        lambda answers: f"{answers['cluster_name']}.local",
        _DOMAIN,
    ),
    Question("all_in_one", "Everything on one machine", _always(False), _yes_no),
    Question(
        "masters",
        "Kubernetes masters (1, or 3 for HA)",
        _always(1),
        partial(_count, 1, 9, odd=True),
        _several_machines,
    ),
    Question("controllers", "Control machines", _always(3), partial(_count, 1, 10), _several_machines),
    Question("computes", "Compute machines", _always(2), partial(_count, 0, 200), _several_machines),
    Question("openstack_version", "OpenStack release", _always("epoxy"), _release),
    Question("openstack_region", "Name of its region", _always("RegionOne"), _REGION),
    Question(
        "services",
        f"Services ({', '.join(services.presets())}, or names with commas between)",
        _always(services.default()),
        _services,
    ),
    Question("kubernetes_version", "Kubernetes version", _always("1.36.3"), _VERSION),
    Question("underlay_network", "Network of the machines", _always("10.10.0.0/24"), _network),
    Question("pod_network", "Network of the pods", _always("10.244.0.0/16"), _network),
    Question("service_network", "Network of the services", _always("10.254.0.0/16"), _network),
)


# --- the tree ---


def machines(answers: Answers) -> tuple[Machine, ...]:
    """The machines of a new cloud: the article's topology, or one machine with every role that one can have."""
    network = IPv4Network(answers.underlay_network)
    known = nodes.roles()

    def several(count: int, *names: str) -> list[Machine]:
        role = known[names[0]]
        return [
            Machine(
                f"{role.prefix}{number:02}.{answers.cluster_domain}",
                str(network[role.first + number - 1]),
                names,
            )
            for number in range(1, count + 1)
        ]

    if answers.all_in_one:
        first = next(iter(known.values())).first
        alone = tuple(name for name, role in known.items() if not role.several)
        return (Machine(f"aio01.{answers.cluster_domain}", str(network[first]), alone),)
    return (
        *several(1, "config"),
        *several(answers.masters, "kube_master"),
        *several(answers.controllers, "kube_control", "storage"),
        *several(answers.computes, "kube_compute"),
    )


def files(answers: Answers) -> dict[str, str]:
    """The tree that follows from the answers alone: path → text. Without library, secrets, keys and settings."""
    all_machines = machines(answers)
    service = IPv4Network(answers.service_network)
    chosen = services.chosen(answers.services)
    context = answers.raw() | {
        "config": _first(all_machines, "config"),
        "master": _first(all_machines, "kube_master"),
        "controls": [machine for machine in all_machines if "kube_control" in machine.roles],
        "control_replicas": 1 if answers.all_in_one else min(answers.controllers, 3),
        "quorum_replicas": 1
        if answers.all_in_one or answers.controllers < 3
        else "${_param:control_replicas}",
        "kubernetes_service_address": service[1],
        "cluster_dns_address": service[10],
        "services": chosen,
    }
    cluster = f"classes/cluster/{answers.cluster_name}"
    result = {
        _place(name, answers.cluster_name): _fill(name, context)
        for name in sorted(str(path.relative_to(TREE)) for path in TREE.rglob("*") if path.is_file())
        if name != SECRETS and services.owner(name) in (None, *chosen)
    }
    for file in nodes.member_files():
        result[f"{cluster}/underlay/{file}"] = _members(file, all_machines)
    for machine in all_machines:
        result[f"nodes/{machine.name}.yml"] = nodes.node_file(machine, answers.cluster_name)
    return result


def _first(all_machines: tuple[Machine, ...], role: str) -> Machine:
    return next(machine for machine in all_machines if role in machine.roles)


def _place(name: str, cluster: str) -> str:
    return name.replace("/cluster/NAME/", f"/cluster/{cluster}/")


def _fill(name: str, context: Mapping[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TREE), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    return environment.get_template(name).render(context)


def _members(file: str, all_machines: tuple[Machine, ...]) -> str:
    import yaml

    members: dict[str, Any] = {}
    for machine in all_machines:
        nodes.join(file, members, machine)
    head = "# Who is in what, for the machines that need to know. `ostack-k8s node add` and `node remove` keep it.\n"
    return head + yaml.safe_dump({"parameters": members}, sort_keys=False)


# --- making it ---


@dataclass(frozen=True)
class Created:
    """A new deployment repo."""

    path: Path
    nodes: tuple[str, ...]
    identity: Path  #: the operator's age identity
    commit: str


def create(
    answers: Answers, target: Path, identity_dir: Path | None, progress: Callable[[str], None]
) -> Created:
    """Make a deployment repo at `target`, whole and committed, or nothing at all.

    `identity_dir`: where identities go (None: ~/.config/ostack-k8s/<cluster>); those that are there are used again.
    Raises OperatorError E007 when `target` is not an empty or absent directory.
    """
    target = target.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OperatorError(
            f"{target} is not empty", code="E007", hint="name another directory with --output"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        draft.chmod(0o755)
        commit, identity = _write(answers, draft, identity_dir, progress)
        os.replace(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return Created(target, tuple(machine.name for machine in machines(answers)), identity, commit)


def pristine_message(subject: str) -> str:
    """A commit message that marks the commit as pristine: `update` starts from the last of them."""
    return f"{subject}\n\n{TRAILER}: {library.library_version()}"


def write_files(root: Path, texts: Mapping[str, str]) -> None:
    """Write path → text below `root`; scripts are executable."""
    for name, text in texts.items():
        write_atomically(root / name, text, mode=0o755 if text.startswith("#!") else 0o644)


def default_identity_directory(cluster: str) -> Path:
    """Where the identities of a cluster lie unless told otherwise, outside of its repo."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(os.environ.get("OSTACK_K8S_IDENTITY_DIR") or home / "ostack-k8s" / cluster)


def _write(
    answers: Answers, root: Path, identity_dir: Path | None, progress: Callable[[str], None]
) -> tuple[str, Path]:
    from reclass_model import pki
    from reclass_model.secrets import Keyring

    names = [machine.name for machine in machines(answers)]
    cluster = answers.cluster_name
    directory = identity_dir or default_identity_directory(cluster)
    progress(f"{len(names)} machines, class library {library.library_version()}")
    library.vendor(root)
    write_files(root, files(answers))
    _write_settings(root, answers.raw(), cluster, names, directory, library.library_version())
    repository = Repository(root)
    config = _first(machines(answers), "config").name
    write_atomically(repository.secrets_file, _secrets(repository, config, answers))
    progress(f"identities in {directory}")
    pki.issue(repository, Keyring(directory / "operator.age"), progress=progress)
    repository.git("init", "--quiet", "--initial-branch=main")
    if identity_dir is not None:
        repository.git("config", "ostack-k8s.identity", str(identity_dir.absolute()))
    return repository.commit(pristine_message(f"The cloud {cluster}"), [root]), directory / "operator.age"


def regenerate_secrets(repository: Repository, identity_dir: Path) -> None:
    """Give a copy of a repo secrets of its own: identities, recipients, every value of secrets.yml.

    Certificates are not touched: `pki.issue` follows. Nothing is committed.
    """
    from reclass_model.inventory import Inventory

    config = Inventory(repository).config_node().name
    settings = repository.settings
    _write_settings(
        repository.root, settings.answers, settings.cluster_name, repository.node_names(), identity_dir,
        settings.library_version,
    )  # fmt: skip
    fresh = Repository(repository.root)
    seal = _sealer(fresh, config)

    def renew(content: Any) -> None:
        parameters = content["parameters"]["_param"]
        for name in parameters:
            parameters[name] = seal(name)

    document.edit(fresh.secrets_file, renew)


def _write_settings(
    root: Path, answers: dict[str, Any], cluster: str, names: list[str], directory: Path, version: str
) -> None:
    """`.ostack-k8s.yml`, with an identity for the operator and for each machine (made where there is none)."""
    import yaml

    from reclass_model.secrets import new_identity

    settings = {
        "cluster_name": cluster,
        "library_version": version,
        "answers": answers,
        "recipients": {
            "operators": {"operator": new_identity(directory / "operator.age")},
            "machines": {name: new_identity(directory / "machines" / f"{name}.age") for name in names},
        },
    }
    head = "# Written by `init`; read by `update` (the answers) and by `secrets` and `pki` (who may read what).\n"
    write_atomically(root / SETTINGS_FILE, head + yaml.safe_dump(settings, sort_keys=False))


def _secrets(repository: Repository, config: str, answers: Answers) -> str:
    """The text of secrets.yml, with a new value for each secret of the chosen services."""
    names = sorted({name for service in services.chosen(answers.services) for name in service.secrets})
    return _fill(SECRETS, {"secret": _sealer(repository, config), "names": names})


def _sealer(repository: Repository, config: str) -> Callable[[str], str]:
    """A function from a secret's name to a new token, for the operators and the config machine."""
    from reclass_model.secrets import DIGEST_KEY, new_digest_key, seal

    key = new_digest_key()
    recipients = repository.settings.recipients
    readers = [*recipients.operators.values(), recipients.machines[config]]

    def token(name: str) -> str:
        plaintext = key if name == DIGEST_KEY else random.token_urlsafe(PASSWORD_BYTES)
        return seal(plaintext, readers, key.encode())

    return token
