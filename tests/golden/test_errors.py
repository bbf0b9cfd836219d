"""Every code that is raised has one line in the table, and docs/errors.md is that table.

`make golden` writes the page anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from reclass_model.codes import CODES, GROUPS

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "errors.md"
PACKAGES = ("cli", "kubernetes_formula", "openstack_images", "reclass_model")

HEAD = """# Errors

What `ostack-k8s` refuses or warns of, by code. A message says what is wrong, where (`file:line` of the model, and the
pillar path) and what to do. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 there are changes
(`--detailed-exitcode`), 130 interrupted; after an interruption the same command goes on where it stopped.
With `-o json`, `validate` lists its problems in the document; all other errors go to stderr, and stdout stays empty.
"""


def page() -> str:
    parts = [HEAD]
    for prefix, about in GROUPS.items():
        rows = [f"| {code} | {meaning} |" for code, meaning in CODES.items() if code.startswith(prefix)]
        parts.append("\n".join([f"## {prefix}xx: {about}\n", "| code | meaning |", "|---|---|", *rows, ""]))
    return "\n".join(parts)


def raised() -> set[str]:
    return {
        code
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path != ROOT / "reclass_model" / "codes.py"
        for code in re.findall(r'"([EW]\d{3})"', path.read_text())
    }


def test_the_table_lists_what_is_raised() -> None:
    default = {"E000"}  # an OperatorError without a code of its own; nothing raises it
    assert raised() - default == set(CODES)


def test_the_table_is_sorted_and_grouped() -> None:
    assert list(CODES) == sorted(CODES)
    assert {code[:2] for code in CODES} == set(GROUPS)


def test_the_page_is_the_table() -> None:
    if os.environ.get("GOLDEN_WRITE"):
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "make golden"
