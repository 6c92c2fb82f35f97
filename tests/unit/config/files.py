"""Configuration files for tests, and what is wrong with them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kfd.config import load
from kfd.errors import ConfigError, ExitCode
from tests.support import CHECKOUT

MIB = 2**20


KAFKA = """\
kafka:
  bootstrap.servers: broker:9092
"""


UPLOAD = """\
uploads:
  scope3:
    directory: /srv/scope3
    topic: lecroy
"""


DOWNLOAD = """\
downloads:
  archive:
    directory: /data/lab
    topic: lecroy
"""


SHIPPED = CHECKOUT / "etc" / "kfd.yaml"


def written(directory: Path, *parts: str) -> Path:
    path = directory / "kfd.yaml"
    path.write_text("".join(parts))
    return path


def faults(path: Path) -> list[tuple[str, str]]:
    """What is wrong with a file: every fault's text and fix."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert caught.value.__context__ is None, "pydantic's error quotes values"
    return [(str(fault), fault.fix) for fault in caught.value.faults]


def uncommented() -> str:
    """The shipped file with every commented key in force."""
    text = SHIPPED.read_text().replace("CHANGE-ME", "broker")
    return re.sub(r"^( *)#( *[a-z][a-z_.]*:(?: |$))", _opened, text, flags=re.MULTILINE)


def _opened(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2]}"
