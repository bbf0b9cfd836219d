"""Options of oslo.config: which ones an image knows, and which values suit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reclass_model import library
from reclass_model.errors import OperatorError
from reclass_model.options import DIRECTORY, Catalog, Option, Options, of_variable

SHOP = Options(
    {
        "DEFAULT": {"debug": "boolean", "verbose": "renamed DEFAULT/debug"},
        "database": {"connection": "text", "max_pool_size": "integer 1.."},
        "token": {
            "key_repository": "text",
            "keys": "renamed database/connection",
            "gone": "renamed old/gone",
        },
    }
)
LISTS = sorted((library.CLASSES / "openstack" / DIRECTORY).glob("*.json"))


@pytest.mark.parametrize(
    ("takes", "value", "wanted"),
    [
        ("text", 1.5, None),
        ("text", ["a", "b"], None),
        ("boolean", True, None),
        ("boolean", "Yes", None),
        ("boolean", 2, "true or false"),
        ("integer", "12", None),
        ("integer", True, "a whole number"),
        ("integer", 1.5, "a whole number"),
        ("integer 1..65535", 65536, "a whole number of at least 1 and at most 65535"),
        ("integer 1..", 0, "a whole number of at least 1"),
        ("integer ..9", 10, "a whole number at most 9"),
        ("number 0..", 0.5, None),
        ("number", "much", "a number"),
        ("list", ["a", 1], None),
        ("list", "a,b", None),
        ("one of a|b", "b", None),
        ("one of a|b", "B", "one of a, b"),
        ("one of in any case a|b", "B", None),
        ("multi text", {"multi": ["a", "b"]}, None),
        ("multi integer", {"multi": [1, "b"]}, "a whole number"),
        ("text", {"multi": ["a", "b"]}, "one value: it cannot be repeated"),
        ("integer", "$other_option", None),
        ("integer", "?{age:0123456789ab:YWdl}", None),
    ],
)
def test_whether_a_value_suits(takes: str, value: Any, wanted: str | None) -> None:
    assert Option("any", "option", takes).refuses(value) == wanted


@pytest.mark.parametrize(
    ("section", "name", "found"),
    [
        ("database", "max_pool_size", Option("database", "max_pool_size", "integer 1..")),
        ("Database", "max-pool-size", Option("database", "max_pool_size", "integer 1..")),
        ("default", "debug", None),
        ("DEFAULT", "verbose", Option("DEFAULT", "debug", "boolean", renamed=True)),
        ("token", "keys", Option("database", "connection", "text", renamed=True)),
        ("token", "gone", Option("old", "gone", "text", renamed=True)),
        ("token", "connection", None),
        ("nothing", "debug", None),
    ],
)
def test_an_option_is_found_as_oslo_config_finds_it(section: str, name: str, found: Option | None) -> None:
    assert SHOP.find(section, name) == found


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("OS_DEFAULT__DEBUG", ("DEFAULT", "debug")),
        ("OS_KEYSTONE_AUTHTOKEN__AUTH_URL", ("keystone_authtoken", "auth_url")),
        ("OS_BOOTSTRAP_PASSWORD", None),
        ("DATABASE", None),
    ],
)
def test_variables_that_set_options(variable: str, meant: tuple[str, str] | None) -> None:
    assert of_variable(variable) == meant


def test_what_images_say_is_written_and_read_again(tmp_path: Path) -> None:
    catalog = Catalog()
    catalog.add("shop-api", {"shop": {"DEFAULT": {"a": "text"}}, "log": {"DEFAULT": {"debug": "boolean"}}})
    catalog.add("shop-worker", {"log": {"DEFAULT": {"colour": "text"}}})
    path = tmp_path / DIRECTORY / "one.json"
    catalog.write(path)
    again = Catalog.read(path, "one.json")
    assert again == catalog
    api, worker = again.options("shop-api"), again.options("shop-worker")
    assert api and worker
    assert api.sections == {"DEFAULT": {"a": "text", "debug": "boolean", "colour": "text"}}
    assert worker.find("DEFAULT", "a") is None
    assert again.options("unknown") is None


def test_an_option_wins_over_a_former_name_of_another() -> None:
    catalog = Catalog()
    catalog.add("shop", {"a": {"s": {"o": "renamed s/p", "p": "text"}}, "b": {"s": {"o": "integer"}}})
    known = catalog.options("shop")
    assert known and known.find("s", "o") == Option("s", "o", "integer")


def test_a_broken_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("{}")
    with pytest.raises(OperatorError, match="images options") as error:
        Catalog.read(tmp_path / "one.json", "options/one.json")
    assert (error.value.code, error.value.problems[0].file) == ("E107", "options/one.json")


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.stem))
def test_the_library_knows_the_options_of_its_images(path: Path) -> None:
    catalog = Catalog.read(path, path.name)
    known = catalog.options("keystone-server")
    assert known
    assert str(known.find("token", "expiration")) == "[token] expiration"
    assert known.find("database", "connection") == Option("database", "connection", "text")
    middleware = known.find("keystone_authtoken", "username")
    assert middleware, "what plugins bring is among them"
    assert sum(map(len, known.sections.values())) > 400
