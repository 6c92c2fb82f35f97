"""Where something listens: ``127.0.0.1:9464``, ``[::1]:9464``, ``monitor.lab:9464``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import InstanceOf, PlainSerializer

from kfd.config.values import read_as
from kfd.units import WrongValueError

_FORM = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", re.ASCII)
_OFF = "off"


@dataclass(frozen=True, slots=True)
class Address:
    """A host, by name or number, and a TCP port of it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _read(text: str) -> Address | None:
    if text == _OFF:
        return None
    found = _FORM.fullmatch(text)
    if found is None or not 1 <= int(found[3]) <= 65535:
        raise WrongValueError(
            f"{text[:60]!r} is neither off nor an address", "write HOST:PORT, like 127.0.0.1:9464"
        )
    return Address(found[1] or found[2], int(found[3]))


def _written(address: Address | None) -> str:
    return _OFF if address is None else str(address)


AddressOrOff = Annotated[
    InstanceOf[Address] | None, PlainSerializer(_written), read_as(_read)
]  # None: off
