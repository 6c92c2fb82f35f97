"""The documents name tests, files and each other: all of them must be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import CHECKOUT

DOCUMENTS = sorted([CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")])
NAMED = re.compile(r"`((?:\w+/)+test_\w+\.py)`: ((?:`\w+`(?: \([^)]*\))?(?:, )?)+)")


def test_tests_that_hold_the_guarantees_exist() -> None:
    groups = NAMED.findall((CHECKOUT / "docs/guarantees.md").read_text())
    assert len(groups) > 30
    missing = []
    for file, names in groups:
        text = (CHECKOUT / "tests" / file).read_text()
        defined = set(re.findall(r"^def test_(\w+)", text, re.MULTILINE))
        missing += [f"{file}: {name}" for name in re.findall(r"`(\w+)`", names)
                    if name not in defined]  # fmt: skip
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_modules_of_tests_that_are_named_exist(document: Path) -> None:
    named = re.findall(r"`(?:tests/)?((?:\w+/)+test_\w+\.py)`", document.read_text())
    assert [file for file in named if not (CHECKOUT / "tests" / file).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []
