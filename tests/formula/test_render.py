"""Every state of every role renders, for every topology and supported system, with undefined names as errors."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernetes_formula.salt_loader import FORMULA
from reclass_model import pki
from reclass_model.certificates import Request, new_key, to_pem
from reclass_model.inventory import Inventory
from reclass_model.repository import Repository
from reclass_model.secrets import Keyring
from reclass_model.validation.preflight import judge, questions

MODELS = Callable[[str], Repository]
CASES = [
    ("article", "cfg01", {"linux", "salt.master", "docker.registry", "kubernetes.client", "config"}),
    (
        "article",
        "kmst01",
        {"linux", "etcd.server", "kubernetes.master", "kubernetes.master.access", "calico.cluster"},
    ),
    (
        "article",
        "ctl01",
        {"linux", "kubernetes.pool", "calico.node", "glusterfs.server.pool", "glusterfs.client.mount"},
    ),
    ("article", "cmp01", {"linux", "containerd", "kubernetes.pool", "calico.node"}),
    ("ha", "kmst03", {"linux", "etcd.server", "kubernetes.master"}),
    ("aio", "aio01", {"linux", "config", "etcd.server", "kubernetes.master", "kubernetes.pool", "applied"}),
    ("lab", "aio01", {"linux", "config", "etcd.server", "kubernetes.master", "kubernetes.pool", "applied"}),
]


#: States that an orchestration or an option of the model brings.
ON_DEMAND = {"etcd.server.forget", "etcd.server.restore", "glusterfs.tls"}


def node_of(model: Repository, short: str) -> str:
    return next(name for name in model.node_names() if name.startswith(f"{short}."))


def low(caller: Any, *command: str) -> list[dict[str, Any]]:
    chunks = caller.cmd(*(command or ("state.show_lowstate",)))
    assert chunks and all(isinstance(chunk, dict) for chunk in chunks), chunks
    return sorted(chunks, key=lambda chunk: float(chunk["order"]))


@pytest.mark.parametrize(("topology", "short", "states"), CASES)
def test_role_renders(
    topology: str, short: str, states: set[str], models: MODELS, caller: Callable[..., Any]
) -> None:
    model = models(topology)
    chunks = low(caller(model, node_of(model, short)))
    seen = {name for chunk in chunks for name in (chunk["__sls__"], *chunk.get("__sls_included_from__", []))}
    assert states <= seen
    records = [chunk for chunk in chunks if chunk["__sls__"] == "applied"]
    assert chunks[-len(records) :] == records, "the record of success comes last"
    assert "/etc/ostack-k8s/applied" in {chunk["name"] for chunk in records}


def test_no_state_file_is_forgotten(models: MODELS, caller: Callable[..., Any]) -> None:
    chunks = []
    for topology, short in (("aio", "aio01"), ("article", "kmst01"), ("article", "ctl01")):
        chunks += low(caller(models(topology), node_of(models(topology), short)))
    seen = {name for chunk in chunks for name in (chunk["__sls__"], *chunk.get("__sls_included_from__", []))}
    files = {
        ".".join(file.relative_to(FORMULA).with_suffix("").parts).removesuffix(".init")
        for file in FORMULA.rglob("*.sls")
        if file.name not in ("top.sls", "clean.sls") and "orch" not in file.parts
    }
    assert files - ON_DEMAND == seen


@pytest.mark.parametrize("state", ["etcd.server.restore", "etcd.server.forget"])
def test_ways_back_render(state: str, models: MODELS, caller: Callable[..., Any]) -> None:
    chunks = low(caller(models("ha"), node_of(models("ha"), "kmst02")), "state.show_low_sls", state)
    assert [chunk["fun"] for chunk in chunks][:2] == ["dead", "dead"]


@pytest.mark.parametrize(
    "state",
    sorted(".".join(file.relative_to(FORMULA).with_suffix("").parts) for file in FORMULA.rglob("clean.sls")),
)
def test_clean_renders(state: str, models: MODELS, caller: Callable[..., Any]) -> None:
    model = models("article")
    salt = caller(model, node_of(model, "kmst01"))
    assert "file" in {chunk["state"] for chunk in low(salt, "state.show_low_sls", state)}


def test_every_application_can_be_cleaned() -> None:
    for state in (
        "linux",
        "etcd/server",
        "containerd",
        "kubernetes/client",
        "kubernetes/master",
        "kubernetes/pool",
        "docker/registry",
        "glusterfs/server",
        "glusterfs/client",
        "config",
        "salt/master",
        "salt/minion",
        "calico/node",
        "calico/cluster",
    ):
        assert (FORMULA / state / "clean.sls").exists()


def grains_of(system: str) -> dict[str, str]:
    """What Salt says of a system, from the name that it gives it."""
    name, _, release = system.partition("-")
    return {"osfinger": system, "os": name, "osrelease": release, "osmajorrelease": release.partition(".")[0]}


@pytest.mark.parametrize("system", yaml.safe_load((FORMULA / "linux/parameters/systems.yaml").read_text()))
def test_supported_systems(system: str, models: MODELS, caller: Callable[..., Any]) -> None:
    """Every role renders whole, and nothing in it is the host's; Calico is refused where there is no BIRD for it."""
    networked = system in yaml.safe_load((FORMULA / "calico/parameters/systems.yaml").read_text())
    for short in ("cfg01", "kmst01", "ctl01", "cmp01", "aio01"):
        model = models("aio" if short == "aio01" else "article")
        salt = caller(model, node_of(model, short), grains=grains_of(system))
        assert salt.cmd("grains.item", "os", "osfinger", "osrelease") == {
            key: grains_of(system)[key] for key in ("os", "osfinger", "osrelease")
        }
        if short in ("ctl01", "cmp01") and not networked:
            said = str(salt.cmd("state.show_lowstate"))
            assert (
                f"{system} has no BIRD 1.6, so it cannot run pods with Calico; systems that can: Debian-12"
                in said
            )
        else:
            assert {"file", "pkg", "service"} <= {chunk["state"] for chunk in low(salt)}, short


def test_systems_are_those_of_preflight(models: MODELS) -> None:
    systems = set(yaml.safe_load((FORMULA / "linux/parameters/systems.yaml").read_text()))
    networked = set(yaml.safe_load((FORMULA / "calico/parameters/systems.yaml").read_text()))
    for topology, short, allowed in (
        ("article", "cmp01", networked),
        ("article", "kmst01", systems),
        ("aio", "aio01", systems),
    ):
        nodes = list(Inventory(models(topology)).nodes())
        node = next(each for each in nodes if each.name == node_of(models(topology), short))
        asked = questions(nodes)[node.name]
        facts = {"modules": {}, "memory": 1 << 30, "disk": defaultdict(lambda: 1 << 20), "clock": 0}
        facts |= {"unreachable": [], "too_small": [], "not_pinged": False, "names": {}, "foreign": []}
        for system in systems:
            codes = {problem.code for problem in judge(node, asked, {**facts, "system": system}, {})}
            assert ("E240" in codes) == (system not in allowed), f"{system} on {short}"


def test_another_system_is_refused_by_name(models: MODELS, caller: Callable[..., Any]) -> None:
    model = models("article")
    salt = caller(model, node_of(model, "ctl01"), grains={"osfinger": "Plan9-4"})
    assert "Plan9-4 is not supported; known: Debian-12" in str(salt.cmd("state.show_low_sls", "linux"))


def test_glusterfs_over_tls(models: MODELS, caller: Callable[..., Any]) -> None:
    model = models("article")
    salt = caller(model, node_of(model, "ctl01"))
    chunks = salt.cmd("state.show_low_sls", "glusterfs.server", pillar={"glusterfs": {"tls": True}})
    named = {chunk["name"]: chunk for chunk in chunks}
    assert {"/usr/lib/ssl/glusterfs.key", "/var/lib/glusterd/secure-access"} <= set(named)
    options = named["keystone-keys"]["options"]
    assert options["server.ssl"] == "on" and options["auth.ssl-allow"].split(",")[0] == node_of(
        model, "ctl01"
    )


def test_gluster_goes_on_without_the_machine_that_is_removed(
    models: MODELS, caller: Callable[..., Any]
) -> None:
    model = models("article")
    first, second = (node_of(model, short) for short in ("ctl01", "ctl02"))
    without = {"server": {"member": {first: None}}, "client": {"member": {first: None}}}
    states = ("state.show_low_sls", "glusterfs.server.pool")
    assert caller(model, second).cmd(*states) == [], "the first one keeps the pool"
    chunks = caller(model, second).cmd(*states, pillar={"glusterfs": without})
    pool = next(chunk for chunk in chunks if chunk["fun"] == "nobody_else")
    assert pool["members"] == ["10.10.0.22", "10.10.0.23"]
    volume = next(chunk for chunk in chunks if chunk["state"] == "glusterfs_volume")
    assert volume["options"]["auth.allow"] == "10.10.0.22,10.10.0.23"


def test_a_kubelets_certificate_goes_with_the_authority_that_signed_it(
    models: MODELS, caller: Callable[..., Any], tmp_path: Path
) -> None:
    """While the cluster's CA is replaced everything trusts both, and the one that signs is on its own in a file."""
    start = datetime.now(UTC)
    keys = new_key(), new_key()
    old, new = (Request("kubernetes", start, 30).self_signed(key) for key in keys)
    model = models("aio")
    salt = caller(model, model.node_names()[0])
    bundle = {"pki": {"authority": {"kubernetes": {"certificate": to_pem(new) + to_pem(old)}}}}
    chunks = {
        chunk["name"]: chunk for chunk in salt.cmd("state.show_low_sls", "kubernetes.pool", pillar=bundle)
    }
    signing = chunks["/etc/kubernetes/pki/ca.signing.crt"]["contents"]
    assert signing == to_pem(new)
    (tmp_path / "ca").write_text(signing)
    absent = chunks["/var/lib/kubelet/kubeconfig"]
    client = tmp_path / "client"

    def goes() -> bool:
        text = " && ".join(absent["onlyif"])
        text = text.replace("/var/lib/kubelet/pki/kubelet-client-current.pem", str(client))
        text = text.replace("/etc/kubernetes/pki/ca.signing.crt", str(tmp_path / "ca"))
        return subprocess.run(["sh", "-c", text], capture_output=True).returncode == 0

    assert not goes(), "there is none yet"
    for authority, key, outlived in ((old, keys[0], True), (new, keys[1], False)):
        certificate = Request("system:node:x", start, 1, usage=("client",)).signed(new_key(), authority, key)
        client.write_text(to_pem(certificate))
        assert goes() == outlived


def test_only_the_first_master_writes_into_the_cluster(models: MODELS, caller: Callable[..., Any]) -> None:
    model = models("ha")
    writers = {"kubernetes_object", "kubernetes_node"}
    first, second = (low(caller(model, node_of(model, short))) for short in ("kmst01", "kmst02"))
    assert writers <= {chunk["state"] for chunk in first}
    assert not writers & {chunk["state"] for chunk in second}


def test_etcd_members_come_from_the_model(models: MODELS, caller: Callable[..., Any]) -> None:
    model = models("ha")
    chunks = low(caller(model, node_of(model, "kmst02")), "state.show_low_sls", "etcd.server.service")
    joined = next(chunk for chunk in chunks if chunk["fun"] == "joined")
    assert [name.split(".")[0] for name in joined["members"]] == ["kmst01", "kmst02", "kmst03"]
    assert joined["founder"].startswith("kmst01.")
    unit = next(chunk for chunk in chunks if chunk["name"] == "/etc/systemd/system/etcd.service")["context"][
        "unit"
    ]
    assert not [flag for flag in unit["flags"] if flag.startswith("initial-cluster")], (
        "a new list restarts nobody"
    )


def test_production_gets_nothing_of_the_lab(models: MODELS, caller: Callable[..., Any]) -> None:
    def kubelet(topology: str) -> dict[str, Any]:
        model = models(topology)
        chunks = low(caller(model, node_of(model, "aio01")), "state.show_low_sls", "kubernetes.pool.kubelet")
        return dict(
            next(chunk for chunk in chunks if chunk["name"] == "/etc/kubernetes/kubelet.yaml")["dataset"]
        )

    assert kubelet("aio")["cgroupDriver"] == "systemd"
    assert kubelet("lab")["cgroupDriver"] == "cgroupfs"
    assert not {"failCgroupV1", "failSwapOn", "oomScoreAdj"} & set(kubelet("aio"))


def test_the_network_of_pods_is_one_or_the_other(models: MODELS, caller: Callable[..., Any]) -> None:
    for topology, short, calico in (("article", "ctl01", True), ("aio", "aio01", False)):
        model = models(topology)
        chunks = low(caller(model, node_of(model, short)))
        assert any(chunk["__sls__"].startswith("calico.") for chunk in chunks) is calico
        assert any(chunk["name"].endswith("cni.conflist.template") for chunk in chunks) is not calico


def test_nothing_is_detected_nothing_is_tunnelled_and_openstack_is_closed(
    models: MODELS, caller: Callable[..., Any]
) -> None:
    model = models("article")
    (environment,) = (
        chunk["context"]["environment"]
        for chunk in low(caller(model, node_of(model, "cmp01")), "state.show_low_sls", "calico.node.config")
        if chunk["name"] == "/etc/calico/node.env"
    )
    assert environment["IP"] == "10.10.0.31/24" and environment["IP6"] == "none"
    (settings,) = (
        chunk["objects"]
        for chunk in low(
            caller(model, node_of(model, "kmst01")), "state.show_low_sls", "calico.cluster.settings"
        )
        if chunk["__id__"] == "settings of Calico"
    )
    (policy,) = (
        chunk["objects"][0]
        for chunk in low(
            caller(model, node_of(model, "kmst01")), "state.show_low_sls", "calico.cluster.policy"
        )
        if chunk["__id__"] == "policy of the model"
    )
    assert [rule["source"] for rule in policy["spec"]["ingress"]] == [
        {"namespaceSelector": "kubernetes.io/metadata.name in { 'openstack', 'openstack-node' }"},
        {"nets": ["10.10.0.0/24"]},
    ]
    pool = next(item["spec"] for item in settings if item["kind"] == "IPPool")
    assert (pool["ipipMode"], pool["vxlanMode"], pool["cidr"]) == ("Never", "Never", "10.244.0.0/16")


#: The capabilities of each of Calico's programs, and where it writes; None: not bounded.
CONFINED = {
    "calico-startup": ("", "/run/calico /var/lib/calico /var/log/calico"),
    "calico-confd": ("", "/run/calico"),
    "calico-bird": ("CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_NET_RAW", "/run/calico"),
    "calico-felix": ("~CAP_SYS_BOOT CAP_SYS_MODULE CAP_SYS_TIME CAP_WAKE_ALARM", None),
    "calico-kube-controllers": ("", "/run/calico-kube-controllers"),
}


def test_calicos_programs_may_do_what_they_need(models: MODELS, caller: Callable[..., Any]) -> None:
    model = models("article")
    units = {}
    for short, states in (("cmp01", "calico.node"), ("kmst01", "calico.cluster")):
        pillar = {"calico": {"service": {"bird": {"PrivateDevices": None}}}}
        chunks = caller(model, node_of(model, short)).cmd("state.show_low_sls", states, pillar=pillar)
        for chunk in chunks:
            if chunk["state"] == "file" and chunk["name"].startswith("/etc/systemd/system/calico-"):
                units[Path(chunk["name"]).stem] = chunk["context"]["unit"]["service"]
    assert set(units) == set(CONFINED)
    for name, (capabilities, paths) in CONFINED.items():
        service = units[name]
        assert service["NoNewPrivileges"] == "yes", name
        assert service["CapabilityBoundingSet"] == capabilities, name
        assert service.get("ReadWritePaths") == paths, name
        assert service.get("ProtectSystem") == ("strict" if paths else None), name
        made = [
            parent + service[key]
            for key, parent in (
                ("RuntimeDirectory", "/run/"),
                ("StateDirectory", "/var/lib/"),
                ("LogsDirectory", "/var/log/"),
            )
            if key in service
        ]
        assert " ".join(made) == (paths or ""), f"{name} would not start before its directory is there"
    assert units["calico-bird"]["PrivateDevices"] is None, "the pillar undoes a line"
    assert units["calico-bird"]["KillSignal"] == "SIGKILL"


def mesh(chunks: list[dict[str, Any]]) -> bool:
    (objects,) = (chunk["objects"] for chunk in chunks if chunk["__id__"] == "mesh of the machines")
    return bool(objects[0]["spec"]["nodeToNodeMeshEnabled"])


def test_the_mesh_is_back_before_reflectors_go(models: MODELS, caller: Callable[..., Any]) -> None:
    model = models("article")
    chunks = low(caller(model, node_of(model, "kmst01")))
    assert mesh(chunks) is True
    named = {chunk["__id__"]: chunk for chunk in chunks}
    assert {"kubernetes_object": "mesh of the machines"} in named["no other peers"]["require"]
    order = [chunk["__id__"] for chunk in chunks]
    assert order.index("mesh of the machines") < order.index("no other peers")
    assert order.index("mesh of the machines") < order.index(f"node {node_of(model, 'cmp01')}")


def test_switches_and_reflectors(
    models: MODELS, caller: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("fabric")
    shutil.copytree(models("article").root, place / "model")
    shutil.copytree(models("article").root.parent / "identity", place / "identity")
    model = Repository(place / "model")
    underlay = model.cluster_dir / "underlay" / "init.yml"
    content = yaml.safe_load(underlay.read_text())
    content["parameters"] = {
        "pki": {"secret": {"bgp-r1": {"format": "password", "shared": True, "value": None}}},
        "calico": {
            "bgp": {
                "peer": {
                    "r1": {
                        "address": "10.10.0.1",
                        "as_number": 65001,
                        "rack": "r1",
                        "password": "${pki:secret:bgp-r1:value}",
                    },
                    "gone": None,
                },
                "mesh_limit": 4,
                "reflector": {node_of(model, "cmp01"): {}, node_of(model, "ctl01"): {}},
            }
        },
    }
    underlay.write_text(yaml.safe_dump(content))
    pki.issue(model, Keyring(place / "identity" / "operator.age"), progress=lambda line: None)
    chunks = low(caller(model, node_of(model, "kmst01")))

    (found,) = (chunk["objects"] for chunk in chunks if chunk["__id__"] == "peers of the machines")
    peers = {item["metadata"]["name"]: item["spec"] for item in found if item["kind"] == "BGPPeer"}
    assert peers["switch-r1"] == {
        "peerIP": "10.10.0.1",
        "asNumber": 65001,
        "filters": ["own-routes"],
        "nodeSelector": "ostack-k8s.io/rack == 'r1'",
        "password": {"secretKeyRef": {"name": "bgp-passwords", "key": "r1"}},
    }
    assert set(peers) == {"switch-r1", "reflector"}
    assert len(base64.b64decode(found[0]["data"]["r1"])) >= 16
    assert mesh(chunks) is False
    order = [chunk["__id__"] for chunk in chunks]
    assert order.index("mesh of the machines") > order.index(f"node {node_of(model, 'cmp01')}")
    assert order.index("mesh of the machines") > order.index("no other peers")
    marks = {chunk["name"]: chunk for chunk in chunks if chunk["state"] == "kubernetes_node"}
    reflector, other = marks[node_of(model, "cmp01")], marks[node_of(model, "cmp02")]
    assert reflector["labels"]["ostack-k8s.io/route-reflector"] == "true"
    assert reflector["annotations"] == {"projectcalico.org/RouteReflectorClusterID": "244.0.0.1"}
    assert other["annotations"] == {"projectcalico.org/RouteReflectorClusterID": None}
    assert other["labels"]["ostack-k8s.io/rack"] == "r1"

    content["parameters"]["calico"]["bgp"]["mesh_limit"] = 5
    underlay.write_text(yaml.safe_dump(content))
    chunks = low(caller(model, node_of(model, "kmst01")))
    assert mesh(chunks) is True, "there are five machines with pods, and so many all peer with one another"
    marks = {chunk["name"]: chunk for chunk in chunks if chunk["state"] == "kubernetes_node"}
    assert "ostack-k8s.io/route-reflector" not in marks[node_of(model, "cmp01")]["labels"]

    content["parameters"]["calico"]["bgp"]["mesh_limit"] = 0
    content["parameters"]["calico"]["bgp"]["reflector"]["cmp99.seven.local"] = {}
    underlay.write_text(yaml.safe_dump(content))
    said = str(caller(model, node_of(model, "kmst01")).cmd("state.show_low_sls", "calico.cluster.peers"))
    assert "cmp99.seven.local is no machine with pods" in said
