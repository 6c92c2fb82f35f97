"""The man pages: well-formed, and every key, verb and option is in them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from kfd.config.catalogues import CasJobsCatalogue, SqlCatalogue
from kfd.config.model import Config, Download, Pools, Queue, Upload
from kfd.config.sections import NAME_KEY
from kfd.ctl.cli import kfdctl
from kfd.daemon.__main__ import _parser
from tests.support import CHECKOUT, unavailable

PAGES = sorted((CHECKOUT / "docs" / "man").iterdir())


def page(name: str) -> str:
    return (CHECKOUT / "docs" / "man" / name).read_text()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_page_is_well_formed(path: Path) -> None:
    if shutil.which("groff") is None:
        unavailable("groff is not installed")
    looked = subprocess.run(
        ["groff", "-mandoc", "-ww", "-z", str(path)], capture_output=True, text=True, check=False
    )
    assert (looked.returncode, looked.stderr) == (0, "")


@pytest.mark.parametrize(
    "model", [Config, Upload, Download, Pools, Queue, SqlCatalogue, CasJobsCatalogue]
)
def test_every_key_is_explained(model: type[BaseModel]) -> None:
    text = page("kfd.yaml.5")
    keys = [name for name, field in model.model_fields.items()
            if field.validation_alias != NAME_KEY]  # fmt: skip
    assert [key for key in keys if not re.search(rf"\b(Ic|Ss) {key}\b", text)] == []


def test_every_option_of_the_daemon_is_explained() -> None:
    options = {text for action in _parser()._actions for text in action.option_strings}
    assert _missing(options - {"-h", "--help"}, page("kfd.8")) == []


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """All that can be called, with its names."""
    for verb in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), verb)
        assert command is not None
        yield f"{name} {verb}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {verb}")


def test_every_verb_and_its_options_are_explained() -> None:
    sections: defaultdict[str, str] = defaultdict(str)
    for verb, text in _items(page("kfdctl.1")):
        sections[verb] += text
    everywhere = {option for parameter in kfdctl.params for option in parameter.opts}
    for name, command in commands(kfdctl, "kfdctl"):
        verb = name.split()[1]
        assert verb in sections, f"{name} is not in kfdctl(1)"
        options = {option for parameter in command.params if isinstance(parameter, click.Option)
                   for option in parameter.opts}  # fmt: skip
        assert _missing(options - everywhere, sections[verb]) == [], name
        if name.count(" ") > 1:
            assert re.search(rf"\b{name.split()[2]}\b", sections[verb]), name


def _items(text: str) -> Iterator[tuple[str, str]]:
    """Of kfdctl(1): each verb, and what is said of it; those with parts have an item for each."""
    for item in re.split(r"^\.It Ic ", text, flags=re.MULTILINE)[1:]:
        yield item.split()[0], item


def _missing(options: set[str], text: str) -> list[str]:
    """``--option`` is ``Fl -option`` in mdoc."""
    return sorted(one for one in options if not re.search(rf"Fl {one.removeprefix('-')}\b", text))
