"""The bundle: what the model wants is fetched, cached, placed, verified and recorded, and what is wrong is named."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubernetes_formula import bundle
from kubernetes_formula.bundle import image
from kubernetes_formula.bundle.artifact import wanted
from kubernetes_formula.bundle.cache import Cache
from kubernetes_formula.bundle.source import HERE, Source
from reclass_model.errors import OperatorError
from reclass_model.repository import Repository

LIBRARY = Path(__file__).parents[2] / "reclass_model/library/classes/system/bundle"
TOOL = "example.org/tool/v1.0/tool.amd64"
IMAGE = "registry.example.org/team/thing:v2.0"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Site:
    """A web server that answers with `content` (path → bytes), and counts what it was asked for."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.truncate = False
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                content = site.content.get(self.path.lstrip("/"))
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write((content or b"")[: -1 if site.truncate else None])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.prefix = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, args=(0.01,))
    thread.start()
    site.content[TOOL] = b"#!/bin/true\n"
    layer, config = b"layer", b"{}"
    manifest = {
        "mediaType": image.MANIFEST,
        "config": {"digest": image.digest(config)},
        "layers": [{"digest": image.digest(layer)}],
    }
    child = json.dumps(manifest).encode()
    other = {"digest": "sha256:other", "platform": {"os": "linux", "architecture": "arm64"}}
    ours = {"digest": image.digest(child), "platform": {"os": "linux", "architecture": "amd64"}}
    base = "registry.example.org/v2/team/thing"
    site.content[f"{base}/manifests/v2.0"] = json.dumps({"manifests": [other, ours]}).encode()
    site.content[f"{base}/manifests/{image.digest(child)}"] = child
    site.content[f"{base}/blobs/{image.digest(layer)}"] = layer
    site.content[f"{base}/blobs/{image.digest(config)}"] = config
    yield site
    site.server.shutdown()
    thread.join()
    site.server.server_close()


def recipe(site: Site) -> dict[str, Any]:
    return {
        "upstream": site.prefix,
        "artifact": {
            "tool": {"version": "1.0", "path": TOOL},
            "thing": {"version": "2.0", "path": "image/thing-2.0.tar", "image": IMAGE},
            "deleted": None,
        },
    }


def recorded(pillar: dict[str, Any], artifacts: list[bundle.Artifact]) -> dict[str, Any]:
    """The pillar with the checksums in it, as the model gives it once they are recorded."""
    return {**pillar, "checksum": {artifact.path: artifact.sha256 for artifact in artifacts}}


def quiet(_: str) -> None:
    pass


# --- upstream ---


def test_upstream_files_and_images_land_in_the_layout_of_their_urls(site: Site, tmp_path: Path) -> None:
    lines: list[str] = []
    artifacts = bundle.build(tmp_path / "b", recipe(site), False, lines.append)

    assert (artifacts[0].name, artifacts[0].path, artifacts[0].bytes) == ("tool", TOOL, 12)
    assert os.access(tmp_path / "b" / TOOL, os.X_OK)
    with tarfile.open(tmp_path / "b/image/thing-2.0.tar") as archive:
        index = json.load(archive.extractfile("index.json") or pytest.fail())
        for member in archive.getnames():
            if member.startswith("blobs/"):
                content = (archive.extractfile(member) or pytest.fail()).read()
                assert hashlib.sha256(content).hexdigest() == Path(member).name
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == IMAGE
    sums = (tmp_path / "b/SHA256SUMS").read_text()
    assert f"{artifacts[0].sha256}  {TOOL}\n" in sums
    assert (
        json.loads((tmp_path / "b/bundle.json").read_text())["artifacts"][0]["sha256"] == artifacts[0].sha256
    )
    assert lines[0] == "tool 1.0 (1 of 2)"
    assert re.fullmatch(r"thing made in \d+\.\d s, 0\.0 MB", lines[-1])
    assert any("the model has no checksum" in line for line in lines)


def test_a_second_build_asks_for_nothing_and_mends_what_was_changed(site: Site, tmp_path: Path) -> None:
    first = bundle.build(tmp_path / "b", recipe(site), False, quiet)
    site.asked.clear()
    (tmp_path / "b" / TOOL).write_bytes(b"changed")
    assert bundle.build(tmp_path / "b", recipe(site), False, quiet) == first
    assert site.asked == []
    assert (tmp_path / "b" / TOOL).read_bytes() == site.content[TOOL]


def test_an_interrupted_build_keeps_what_it_has_and_goes_on(site: Site, tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if "thing 2.0" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bundle.build(tmp_path / "b", recipe(site), False, interrupt)
    assert (tmp_path / "b" / TOOL).is_file()
    site.asked.clear()
    bundle.build(tmp_path / "b", recipe(site), False, quiet)
    assert f"/{TOOL}" not in site.asked


def test_a_checksum_that_is_not_the_models_is_refused_and_nothing_is_placed(
    site: Site, tmp_path: Path
) -> None:
    with pytest.raises(OperatorError) as error:
        bundle.build(tmp_path / "b", {**recipe(site), "checksum": {TOOL: "0" * 64}}, False, quiet)
    assert error.value.code == "E706"
    assert TOOL in str(error.value) and "0" * 64 in str(error.value)
    assert not (tmp_path / "b" / TOOL).exists()


def test_what_cannot_be_downloaded_is_named(site: Site, tmp_path: Path) -> None:
    del site.content[TOOL]
    with pytest.raises(OperatorError, match="cannot download tool: 404") as error:
        bundle.build(tmp_path / "b", recipe(site), False, quiet)
    assert error.value.code == "E705" and "--from-source" in str(error.value.problems[0].hint)


def test_a_download_that_breaks_off_is_not_taken_for_whole(site: Site, tmp_path: Path) -> None:
    site.truncate = True
    with pytest.raises(OperatorError) as error:
        bundle.build(tmp_path / "b", recipe(site), False, quiet)
    assert error.value.code == "E705"
    assert not (tmp_path / "b" / TOOL).exists()


def test_a_blob_must_have_its_digest(site: Site, tmp_path: Path) -> None:
    (blob,) = (path for path, content in site.content.items() if content == b"layer")
    site.content[blob] = b"other"
    with pytest.raises(OperatorError, match="does not have the digest") as error:
        bundle.build(tmp_path / "b", recipe(site), False, quiet)
    assert error.value.code == "E706"


def test_a_place_that_cannot_be_written_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("a file where the directory should be")
    with pytest.raises(OperatorError, match=re.escape(str(tmp_path / "b"))) as error:
        bundle.build(tmp_path / "b", recipe(site), False, quiet)
    assert error.value.code == "E707"


# --- verify and record ---


def test_verify_names_each_bad_file(site: Site, tmp_path: Path) -> None:
    place = tmp_path / "b"
    model = recorded(recipe(site), bundle.build(place, recipe(site), False, quiet))
    assert bundle.verify(place, model) == []

    (place / TOOL).write_bytes(b"changed")
    (place / "image/thing-2.0.tar").unlink()
    problems = {problem.code: problem for problem in bundle.verify(place, model)}
    assert set(problems) == {"E708", "E709"}
    assert "thing-2.0.tar is missing" in problems["E708"].message
    assert TOOL in problems["E709"].message and problems["E709"].path == "bundle:artifact:tool"


def test_verify_holds_the_bundle_against_the_model(site: Site, tmp_path: Path) -> None:
    place = tmp_path / "b"
    model = recorded(recipe(site), bundle.build(place, recipe(site), False, quiet))
    model["checksum"] = {TOOL: "f" * 64}
    codes = {problem.path: problem.code for problem in bundle.verify(place, model)}
    assert codes == {"bundle:artifact:tool": "E706", "bundle:artifact:thing": "E710"}


def test_checksums_are_recorded_in_the_cluster_level(site: Site, tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/.ostack-k8s.yml").write_text("cluster_name: lab\n")
    other = bundle.Artifact("tool", "0.9", "example.org/tool-0.9", "e" * 64, 1)
    bundle.record(Repository(tmp_path / "repo"), [other])
    bundle.build(tmp_path / "b", recipe(site), False, quiet)
    target = bundle.record(Repository(tmp_path / "repo"), bundle.inspect(tmp_path / "b", recipe(site)))

    assert target == tmp_path / "repo/classes/cluster/lab/underlay/bundle.yml"
    written = yaml.safe_load(target.read_text())["parameters"]["bundle"]
    assert written["checksum"][TOOL] == hashlib.sha256(site.content[TOOL]).hexdigest()
    assert written["checksum"][other.path] == other.sha256, "another version keeps its checksum"


def test_what_is_damaged_is_not_recorded(site: Site, tmp_path: Path) -> None:
    bundle.build(tmp_path / "b", recipe(site), False, quiet)
    (tmp_path / "b" / TOOL).write_bytes(b"changed")
    with pytest.raises(OperatorError) as error:
        bundle.inspect(tmp_path / "b", recipe(site))
    assert error.value.code == "E709"


def test_a_model_without_artifacts_says_so() -> None:
    with pytest.raises(OperatorError, match="names no artifacts"):
        wanted({})
    with pytest.raises(OperatorError, match="bundle:artifact:tool:version is not set"):
        wanted({"artifact": {"tool": {"path": TOOL}}})


# --- cache ---


def test_a_damaged_cache_entry_is_made_again(tmp_path: Path) -> None:
    def make(work: Path) -> Path:
        (work / "x").write_bytes(b"content")
        return work / "x"

    store = Cache(tmp_path)
    entry = store.obtain({"a": 1}, make)
    assert not entry.reused and store.obtain({"a": 1}, make).reused
    assert store.obtain({"a": 2}, make).path != entry.path
    entry.path.write_bytes(b"damage")
    again = store.obtain({"a": 1}, make)
    assert not again.reused and again.path.read_bytes() == b"content"


# --- source ---


def library_recipe(tmp_path: Path) -> dict[str, Any]:
    """The pillar's `bundle` as class system.bundle alone gives it."""
    import reclass_rs

    shutil.copytree(LIBRARY, tmp_path / "inventory/classes/system/bundle")
    (tmp_path / "inventory/nodes").mkdir()
    (tmp_path / "inventory/nodes/n.yml").write_text(
        "{classes: [system.bundle], parameters: {_param: {bundle_url: 'https://x'}}}"
    )
    engine = reclass_rs.Reclass(inventory_path=str(tmp_path / "inventory"))
    pillar: dict[str, Any] = engine.nodeinfo("n").parameters["bundle"]
    return pillar


def test_every_artifact_of_the_library_is_pinned_at_its_version(tmp_path: Path) -> None:
    sources = yaml.safe_load((HERE / "sources.yml").read_text())["artifact"]
    for entry in wanted(library_recipe(tmp_path)):
        assert entry.version in entry.path
        assert (entry.image is not None) == entry.path.startswith("image/")
        module = HERE / "modules" / sources[entry.name]["module"] / entry.version
        for package in sources[entry.name]["members"].values():
            if package != ".":
                modules = re.findall(r"(?m)^(?:require)?\s+(\S+) v(\S+)", (module / "go.mod").read_text())
                versions = [version for name, version in modules if package.startswith(name)]
                assert entry.version in versions, f"{package} is not pinned at {entry.version} in {module}"


def test_the_library_satisfies_the_schema(tmp_path: Path) -> None:
    import jsonschema

    schema = json.loads((LIBRARY.parents[3] / "schema/bundle.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(library_recipe(tmp_path))


def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """A PATH with nothing but these programs."""
    (tmp_path / "bin").mkdir()
    for name, script in scripts.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.parametrize(
    ("scripts", "words"),
    [
        ({}, "there is no Go"),
        ({"go": "echo go version go1.21.3 linux/amd64"}, "too old: go version go1.21.3"),
    ],
)
def test_without_the_right_go_it_says_which_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripts: dict[str, str], words: str
) -> None:
    pillar = library_recipe(tmp_path)
    programs(tmp_path, monkeypatch, **scripts)
    with pytest.raises(OperatorError, match=words) as error:
        bundle.build(tmp_path / "b", pillar, True, quiet)
    assert error.value.code == "E702" and "install Go 1.26" in str(error.value)


def test_a_missing_c_library_is_named_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillar = library_recipe(tmp_path)
    programs(tmp_path, monkeypatch, go="echo go version go1.26.0 linux/amd64")
    with pytest.raises(OperatorError, match="runc is built with C and libseccomp") as error:
        bundle.build(tmp_path / "b", pillar, True, quiet)
    assert "apt-get install" in str(error.value) and not (tmp_path / "b").exists()


def test_a_version_that_is_not_pinned_names_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillar = library_recipe(tmp_path)
    pillar["artifact"] = {"etcd": pillar["artifact"]["etcd"] | {"version": "9.9.9"}}
    programs(tmp_path, monkeypatch, go="echo go version go1.26.0 linux/amd64")
    with pytest.raises(OperatorError, match=r"etcd 9\.9\.9 has no pinned Go modules.*3\.6\.16") as error:
        bundle.build(tmp_path / "b", pillar, True, quiet)
    assert error.value.code == "E703"


def test_an_artifact_nobody_knows_to_build_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, go="echo go version go1.26.0 linux/amd64")
    with pytest.raises(OperatorError, match="nothing says how tool is built") as error:
        bundle.build(tmp_path / "b", {"artifact": {"tool": {"version": "1.0", "path": TOOL}}}, True, quiet)
    assert error.value.code == "E703"


def test_what_goes_words_say_reaches_the_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillar = library_recipe(tmp_path)
    pillar["artifact"] = {"pause": pillar["artifact"]["pause"]}
    version = "if [ $1 = version ]; then echo go version go1.26.0 linux/amd64; exit; fi"
    failing = f'{version}\necho "main.go:3: no such thing" >&2; exit 1'
    programs(tmp_path, monkeypatch, go=failing)
    with pytest.raises(OperatorError, match=r"go could not build pause:\nmain.go:3: no such thing") as error:
        bundle.build(tmp_path / "b", pillar, True, quiet)
    assert error.value.code == "E704"


def test_all_that_decides_the_bytes_is_in_the_cache_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillar = library_recipe(tmp_path)
    (pause,) = (entry for entry in wanted(pillar) if entry.name == "pause")
    programs(tmp_path, monkeypatch, go="echo go version go1.26.0 linux/amd64")
    inputs = Source().inputs(pause)
    assert inputs["compiler"] == "go version go1.26.0 linux/amd64"
    assert set(inputs["module"]) == {"go.mod", "main.go"}
    assert inputs["recipe"]["user"] == "65535:65535"


def test_an_image_archive_is_the_same_for_the_same_content(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"x" * 1000)
    for number in (1, 2):
        os.utime(tmp_path / "program", (number, number))
        image.write(tmp_path / f"{number}.tar", IMAGE, {"program": tmp_path / "program"}, "/program", "1:1")
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
