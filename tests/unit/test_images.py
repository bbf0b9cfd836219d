"""Images without Docker or registry: definitions, digests, the lock, the layer, and what operators are told."""

from __future__ import annotations

import copy
import io
import os
import stat
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from openstack_images.bake import layer
from openstack_images.build import build
from openstack_images.definition import BakedImage, ConfigFile, images
from openstack_images.lock import Lock
from openstack_images.package import Builder
from openstack_images.pinning import require_locked
from openstack_images.sbom import bill_of_materials, packages
from reclass_model.configuration import render
from reclass_model.errors import OperatorError

REGISTRY = "config.example:5000"
PILLAR: dict[str, Any] = {
    "openstack": {
        "release": {
            "one": {"suite": "trixie"},
            "two": {"suite": "forky", "extra_suites": {"sid": {"priority": 100}}, "check_valid_until": False},
        },
        "base_image": {"python": {"packages": {"python3": {}, "tini": {}, "gone": None}}},
    },
    "shop": {
        "api": {
            "image": {
                "release": "one",
                "suite": "trixie",
                "base": "python",
                "packages": {"shop-api": {"version": "2:27."}},
                "user": {"name": "shop", "uid": 42500, "gid": 42501},
                "directories": {"/var/lib/shop": {}},
                "remove": {"/etc/shop/key": {}},
                "entrypoint": "/usr/bin/tini --",
                "command": "shop-api --say 'hello there'",
                "config": {"/etc/shop/shop.conf": {"format": "ini", "data": {"DEFAULT": {"debug": False}}}},
            }
        },
        "worker": {"enabled": True},
    },
    "store": {"server": {"image": {"suite": "trixie", "packages": {"store": {}}}}},
    "kubernetes": {"control": {"workload": {}}},
}
LOCK = Lock(
    {
        "debian": {"trixie": {"bash": "5"}},
        "python": {"trixie": {"python3": "3.13", "tini": "0.19"}},
        "shop-api": {"trixie": {"shop-api": "2:27.0.1-1"}},
        "store-server": {"trixie": {"store": "11"}},
    }
)


def changed(*path: str, to: Any) -> dict[str, Any]:
    """The pillar with one value changed."""
    pillar = copy.deepcopy(PILLAR)
    at = pillar
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    return pillar


def shop(pillar: dict[str, Any] = PILLAR, lock: Lock = LOCK) -> BakedImage:
    return images(pillar, lock, REGISTRY)["shop:api"]


def problem(error: pytest.ExceptionInfo[OperatorError]) -> tuple[str, str | None]:
    return error.value.problems[0].code, error.value.problems[0].path


class TestConfiguration:
    def test_ini_is_sorted_joins_lists_repeats_multi_and_skips_nulls(self) -> None:
        data = {
            "b": {
                "multi_option": {"multi": ["x", "y"]},
                "list": [1, "two", True],
                "gone": None,
                "number": 0.5,
            },
            "a": {"text": "one\ntwo", "flag": True},
            "gone": None,
        }
        assert render("ini", data) == (
            "[a]\nflag = true\ntext = one\n    two\n\n"
            "[b]\nlist = 1,two,true\nmulti_option = x\nmulti_option = y\nnumber = 0.5\n"
        )

    def test_yaml_and_json_are_sorted_without_nulls(self) -> None:
        data = {"b": [{"x": None, "y": 1}], "a": None}
        assert render("yaml", data) == "b:\n- y: 1\n"
        assert render("json", data) == '{\n  "b": [\n    {\n      "y": 1\n    }\n  ]\n}\n'

    def test_raw_is_as_written(self) -> None:
        assert render("raw", "a\n\n b") == "a\n\n b"

    @pytest.mark.parametrize(
        ("format", "data"),
        [
            ("toml", {}),
            ("ini", "text"),
            ("ini", {"a": 1}),
            ("ini", {"a": {"b": {"c": 1}}}),
            ("raw", {"a": 1}),
        ],
    )
    def test_what_a_format_cannot_say_is_refused(self, format: str, data: Any) -> None:
        with pytest.raises(OperatorError) as error:
            render(format, data)
        assert error.value.code == "E501"


class TestDefinition:
    def test_images_are_found_by_the_role_that_declares_them(self) -> None:
        found = images(PILLAR, Lock(), REGISTRY)
        assert list(found) == ["shop:api", "store:server"]
        assert found["shop:api"].name == "shop-api"
        assert found["shop:api"].command == ("shop-api", "--say", "hello there")
        assert [str(each) for each in found["shop:api"].package.chain] == [
            "debian (trixie)",
            "python (trixie)",
            "shop-api (one)",
        ]

    def test_reference_names_registry_image_and_release_or_suite(self) -> None:
        image = shop()
        assert image.reference == f"{REGISTRY}/shop-api:one-{image.digest[:12]}"
        assert images(PILLAR, LOCK, REGISTRY)["store:server"].tag.startswith("trixie-")

    def test_the_digest_is_of_inputs_not_of_their_order_or_the_registry(self) -> None:
        backwards = {key: PILLAR[key] for key in reversed(PILLAR)}
        assert shop(backwards).digest == shop().digest == images(PILLAR, LOCK, "other:1")["shop:api"].digest

    def test_configuration_changes_the_baked_image_only(self) -> None:
        config = ("shop", "api", "image", "config", "/etc/shop/shop.conf", "data", "DEFAULT", "debug")
        after = shop(changed(*config, to=True))
        assert after.digest != shop().digest
        assert after.package.digest == shop().package.digest

    @pytest.mark.parametrize(
        ("path", "to"),
        [
            (("shop", "api", "image", "packages"), {"shop-api": {}, "more": {}}),
            (("shop", "api", "image", "user", "uid"), 42502),
            (("shop", "api", "image", "directories", "/var/lib/shop", "mode"), "0700"),
            (("shop", "api", "image", "remove"), {}),
            (("openstack", "base_image", "python", "packages", "curl"), {}),
        ],
    )
    def test_packages_user_and_base_change_the_package_image(self, path: tuple[str, ...], to: Any) -> None:
        after = shop(changed(*path, to=to))
        assert after.package.digest != shop().package.digest
        assert after.digest != shop().digest

    def test_an_expected_version_is_no_input(self) -> None:
        after = shop(changed("shop", "api", "image", "packages", "shop-api", "version", to="2:"))
        assert after.digest == shop().digest

    def test_what_a_layer_is_without_those_on_it_are_too_unless_they_ask_for_it(self) -> None:
        pillar = changed("openstack", "base_image", "python", "without", to={"make": {}, "python3-pip": {}})
        image = pillar["shop"]["api"]["image"]
        image["without"] = {"gcc": {}, "make": {}, "patch": None}
        assert [layer.without for layer in shop(pillar).package.chain] == [
            (),
            ("make", "python3-pip"),
            ("gcc", "make", "python3-pip"),
        ]
        assert shop(pillar).digest == shop().digest
        image["packages"]["python3-pip"] = {}
        assert shop(pillar).package.without == ("gcc", "make")

    def test_locked_versions_are_an_input_and_no_lock_is_one_too(self) -> None:
        newer = Lock({**LOCK.images, "shop-api": {"trixie": {"shop-api": "2:27.0.2-1"}}})
        assert len({shop(lock=lock).digest for lock in (LOCK, newer, Lock())}) == 3

    def test_a_release_brings_its_sources(self) -> None:
        pillar = changed("shop", "api", "image", "release", to="two")
        sources = shop(pillar).package.sources
        assert sources.extra_suites == (("sid", 100),)
        assert not sources.check_valid_until
        assert shop().package.sources.check_valid_until

    def test_null_deletes_an_image(self) -> None:
        assert list(images(changed("store", "server", "image", to=None), LOCK, REGISTRY)) == ["shop:api"]

    @pytest.mark.parametrize(
        ("path", "to", "code", "where"),
        [
            (("release",), "three", "E502", "shop:api:image:release"),
            (("suite",), None, "E502", "shop:api:image:suite"),
            (("base",), "pyton", "E502", "shop:api:image:base"),
            (("user",), {"name": "shop"}, "E502", "shop:api:image:user"),
            (("user",), None, "E502", "shop:api:image:user"),
            (("packages",), ["shop-api"], "E502", "shop:api:image:packages"),
            (("packages", "shop-api"), "2:27", "E502", "shop:api:image:packages:shop-api"),
            (
                ("config", "/etc/shop/shop.conf", "mode"),
                "rw",
                "E502",
                "shop:api:image:config:/etc/shop/shop.conf:mode",
            ),
            (
                ("config", "/etc/shop/shop.conf", "data"),
                [1],
                "E501",
                "shop:api:image:config:/etc/shop/shop.conf:data",
            ),
            (("command",), "say 'it", "E502", "shop:api:image:command"),
            (
                ("config", "/var/lib/shop/a"),
                {"format": "raw", "data": ""},
                "E502",
                "shop:api:image:config:/var/lib/shop/a",
            ),
            (
                ("config", "shop.conf"),
                {"format": "raw", "data": ""},
                "E502",
                "shop:api:image:config:shop.conf",
            ),
        ],
    )
    def test_what_is_wrong_is_named_with_its_path(
        self, path: tuple[str, ...], to: Any, code: str, where: str
    ) -> None:
        with pytest.raises(OperatorError) as error:
            shop(changed("shop", "api", "image", *path, to=to))
        assert problem(error) == (code, where)

    def test_bases_that_stand_on_each_other_are_refused(self) -> None:
        with pytest.raises(OperatorError, match="python → python"):
            shop(changed("openstack", "base_image", "python", "base", to="python"))

    def test_a_secret_is_never_baked(self) -> None:
        data = {"database": {"connection": "mysql://shop:?{age:0123456789ab:YWdl}@db/shop"}}
        with pytest.raises(OperatorError) as error:
            shop(changed("shop", "api", "image", "config", "/etc/shop/shop.conf", "data", to=data))
        assert problem(error) == ("E503", "shop:api:image:config:/etc/shop/shop.conf:data")


class TestLock:
    def test_written_and_read_again(self, tmp_path: Path) -> None:
        path = tmp_path / "images.lock.yml"
        LOCK.write(path)
        assert Lock.read(path) == LOCK
        assert [each.name for each in tmp_path.iterdir()] == ["images.lock.yml"]

    def test_no_file_is_an_empty_lock(self, tmp_path: Path) -> None:
        assert Lock.read(tmp_path / "images.lock.yml") == Lock()

    def test_a_broken_file_is_named_with_its_line(self, tmp_path: Path) -> None:
        path = tmp_path / "images.lock.yml"
        path.write_text("images:\n  debian: {\n")
        with pytest.raises(OperatorError) as error:
            Lock.read(path)
        assert (error.value.code, error.value.problems[0].file, error.value.problems[0].line) == (
            "E504",
            str(path),
            3,
        )
        path.write_text("- something else\n")
        with pytest.raises(OperatorError, match="not a lock"):
            Lock.read(path)

    def test_unlocked_is_refused_with_the_command(self) -> None:
        with pytest.raises(OperatorError, match="ostack-k8s images lock") as error:
            build(
                images(PILLAR, Lock(), REGISTRY), None, Builder("unix:///nowhere"), push=False, progress=print
            )
        assert error.value.code == "E506"

    def test_another_upstream_version_is_refused(self) -> None:
        other = Lock({**LOCK.images, "shop-api": {"trixie": {"shop-api": "2:28.0.0-1"}}})
        with pytest.raises(OperatorError, match=r"shop-api is 2:28\.0\.0-1, expected 2:27\.") as error:
            require_locked([shop(lock=other)])
        assert error.value.code == "E505"

    def test_an_expected_version_may_come_with_the_base(self) -> None:
        pillar = changed("shop", "api", "image", "packages", "python3", to={"version": "3.13"})
        require_locked([shop(pillar)])


class TestBillOfMaterials:
    def test_every_package_of_every_layer(self) -> None:
        assert packages(shop()) == {
            "bash": "5",
            "python3": "3.13",
            "shop-api": "2:27.0.1-1",
            "tini": "0.19",
        }

    def test_it_is_cyclonedx_and_the_same_every_time(self) -> None:
        document = bill_of_materials(shop())
        assert document == bill_of_materials(shop())
        assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
        assert document["metadata"]["component"]["name"] == "shop-api"
        assert document["components"][2] == {
            "type": "library",
            "name": "shop-api",
            "version": "2:27.0.1-1",
            "purl": "pkg:deb/debian/shop-api@2%3A27.0.1-1?distro=trixie",
        }


class TestLayer:
    FILES = (ConfigFile("/etc/b", 0o600, "b"), ConfigFile("/etc/a", 0o640, "ä\n"))

    def test_the_same_files_give_the_same_bytes(self) -> None:
        assert layer(self.FILES, 42501) == layer(tuple(reversed(self.FILES)), 42501)

    def test_files_belong_to_root_and_the_group(self) -> None:
        with tarfile.open(fileobj=io.BytesIO(layer(self.FILES, 42501).content)) as tar:
            members = tar.getmembers()
        assert [(each.name, each.mode, each.uid, each.gid, each.mtime) for each in members] == [
            ("etc", 0o755, 0, 0, 0),
            ("etc/a", 0o640, 0, 42501, 0),
            ("etc/b", 0o600, 0, 42501, 0),
        ]


class TestBuilder:
    """The real subprocesses, with a docker client that says what a test wants to hear."""

    @pytest.fixture
    def client(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.defpath}")
        return tmp_path / "docker"

    @staticmethod
    def says(client: Path, text: str, status: int = 1) -> None:
        help_works = '[ "$2" != --help ] || exit 0'
        client.write_text(
            f"#!/bin/sh\n{help_works}\ncat >/dev/null\ncat >&2 <<'END'\n{text}\nEND\nexit {status}\n"
        )
        client.chmod(client.stat().st_mode | stat.S_IXUSR)

    def failure(self) -> OperatorError:
        with pytest.raises(OperatorError) as error:
            Builder().build(shop().package, print)
        return error.value

    def test_packages_that_the_mirror_lost_are_named(self, client: Path) -> None:
        self.says(
            client,
            "#7 3.1 E: Version '2:27.0.1-1' for 'shop-api' was not found\n#7 3.1 E: Unable to locate package tini",
        )
        failure = self.failure()
        assert [each.code for each in failure.problems] == ["E513", "E513"]
        assert "shop-api 2:27.0.1-1" in failure.problems[0].message
        assert "tini" in failure.problems[1].message
        assert "images lock" in str(failure.problems[0].hint)

    def test_a_file_that_the_mirror_lost_is_named(self, client: Path) -> None:
        self.says(
            client, "E: Failed to fetch http://mirror.example/pool/t/tini_0.19-1_amd64.deb  404  Not Found"
        )
        failure = self.failure()
        assert failure.code == "E513"
        assert "tini_0.19-1_amd64.deb" in str(failure)

    @pytest.mark.parametrize(
        "words",
        [
            "#7 2.0 Err:1 http://mirror.example trixie InRelease\n  Temporary failure resolving 'mirror.example'",
            "E: Failed to fetch http://mirror.example/pool/t/tini_0.19-1_amd64.deb  Connection failed",
            "  Could not connect to mirror.example:80 (192.0.2.1). - connect (111: Connection refused)",
        ],
    )
    def test_a_lost_network_is_told_apart(self, client: Path, words: str) -> None:
        self.says(client, words)
        failure = self.failure()
        assert failure.code == "E515"
        assert "it goes on" in str(failure)

    def test_how_far_apt_came_is_told_on_the_way(self, client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("openstack_images.package._SECONDS_BETWEEN", 0)
        self.says(
            client, "#7 1.0 Get:1 http://x tini\n#7 2.0 Unpacking tini\n#7 3.0 Setting up tini (1)", status=0
        )
        told: list[str] = []
        Builder().build(shop().package, told.append)
        assert told == [
            f"shop-api (one): {done} 1 of 1 packages" for done in ("downloaded", "unpacked", "set up")
        ]

    def test_what_runs_can_be_ended(self, client: Path) -> None:
        self.says(client, "")
        client.write_text(client.read_text().replace("cat >/dev/null", "exec sleep 30"))
        builder = Builder()
        threading.Timer(0.3, builder.stop).start()
        began = time.monotonic()
        with pytest.raises(OperatorError):
            builder.build(shop().package, print)
        assert time.monotonic() - began < 5

    def test_a_full_disk(self, client: Path) -> None:
        self.says(client, "write /var/lib/x: no space left on device")
        assert self.failure().code == "E512"

    def test_no_docker_answers(self, client: Path) -> None:
        self.says(client, "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?")
        assert self.failure().code == "E511"

    def test_anything_else_shows_the_command_and_its_last_words(self, client: Path) -> None:
        self.says(client, "something broke")
        failure = self.failure()
        assert failure.code == "E514"
        assert "something broke" in str(failure)
        assert "docker build" in str(failure)

    def test_no_client(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert self.failure().code == "E510"
