"""Durations, sizes and rates as people write and read them.

``parse_*`` takes what a configuration or a command line holds; ``write_*`` gives a text that parses
back to exactly the same value; ``human_*`` gives the rounded text that status and progress show.
Durations are seconds, sizes are bytes, rates are bytes a second. Pure functions, any thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

_MILLISECONDS = {
    "d": 24 * 60 * 60 * 1000,
    "h": 60 * 60 * 1000,
    "m": 60 * 1000,
    "s": 1000,
    "ms": 1,
}
_LONGEST_MS = 36_500 * _MILLISECONDS["d"]  # a century: no timeout or date overflows with it

_BYTES = {
    "PiB": 2**50,
    "TiB": 2**40,
    "GiB": 2**30,
    "MiB": 2**20,
    "KiB": 2**10,
    "PB": 10**15,
    "TB": 10**12,
    "GB": 10**9,
    "MB": 10**6,
    "KB": 10**3,
    "B": 1,
}
_LARGEST = 2**63 - 1  # what the wire and SQLite can hold

_SHARE = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,2})?) ?%", re.ASCII)
_QUANTITY = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)", re.ASCII)


class WrongValueError(ValueError):
    """A text that is no such value; ``fix`` names the nearest right one, where there is one."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Room:
    """Space on a disk: so many bytes, or a share (0 to 1) of the whole disk."""

    size: int = 0  # bytes
    share: float = 0.0

    def on(self, disk_size: int) -> int:
        """The bytes that it is on a disk of ``disk_size`` bytes."""
        return max(self.size, int(self.share * disk_size))


def parse_duration(text: str) -> float:
    """Seconds of ``30s``, ``500ms``, ``1.5h``, ``90d``; raises :class:`WrongValueError`."""
    thousandths = _parse("a duration", text, _MILLISECONDS, "write it like 30s, 5m, 24h, 90d")
    if thousandths > _LONGEST_MS:
        raise WrongValueError(f"{text!r} is too long", "at most 36500d")
    return thousandths / 1000


def parse_size(text: str) -> int:
    """Bytes of ``512KiB``, ``10MB`` (decimal), ``4096``; raises :class:`WrongValueError`."""
    hint = "write it like 512KiB, 20GiB, 10MB, or in bytes"
    size = int(text) if _is_bytes(text) else _parse("a size", text, _BYTES, hint)
    if size > _LARGEST:
        raise WrongValueError(f"{text!r} is too large", "at most 8191PiB")
    return size


def parse_room(text: str) -> Room:
    """The room of ``1%``, ``0.5%``, ``20GiB``; raises :class:`WrongValueError`."""
    share = _SHARE.fullmatch(text)
    if share is not None:
        return Room(share=float(share[1]) / 100)
    if "%" in text:
        raise WrongValueError(f"{text!r} is not a share of a disk", "write it like 1%, 0.5%")
    return Room(size=parse_size(text))


def parse_rate(text: str) -> int | None:
    """Bytes a second of ``20MiB``, or None for ``none``; raises :class:`WrongValueError`."""
    if text == "none":
        return None
    rate = parse_size(text)
    if rate == 0:
        raise WrongValueError("nothing would be sent at that rate", "none is no limit")
    return rate


def write_duration(seconds: float) -> str:
    """The shortest text that :func:`parse_duration` reads as ``seconds`` (whole milliseconds)."""
    return _write(round(seconds * 1000), _MILLISECONDS) or "0s"


def write_size(size: int) -> str:
    """The shortest text that :func:`parse_size` reads as ``size``."""
    return _write(size, _BYTES) or "0B"


def write_room(room: Room) -> str:
    """The text that :func:`parse_room` reads as ``room``."""
    return f"{100 * room.share:g}%" if room.share else write_size(room.size)


def write_rate(rate: int | None) -> str:
    """The text that :func:`parse_rate` reads as ``rate``."""
    return "none" if rate is None else write_size(rate)


def human_duration(seconds: float) -> str:
    """The two largest units, ``3d 4h``, ``5m 2s``; below 10 s with a decimal, ``4.5s``."""
    if round(seconds, 1) < 10:
        return f"{_one_decimal(seconds)}s"
    left = round(seconds) * 1000
    parts: list[tuple[int, str]] = []
    for unit in "dhms":
        count, left = divmod(left, _MILLISECONDS[unit])
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count}{unit}" for count, unit in parts[:2] if count)


def human_size(size: int) -> str:
    """A binary size with at most four digits: ``812 B``, ``1.5 KiB``, ``612 MiB``."""
    return _scaled(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))


def human_rate(rate: float) -> str:
    """A decimal rate with at most three digits: ``118 MB/s``, ``1.5 GB/s``; ``0`` for none."""
    if rate < 0.5:
        return "0"
    return _scaled(rate, 1000, ("B", "kB", "MB", "GB", "TB")) + "/s"


def _is_bytes(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) is not None


def _parse(kind: str, text: str, units: Mapping[str, int], hint: str) -> int:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise WrongValueError(f"{text!r} is not {kind}", hint)
    number, unit = found.groups()
    if unit not in units:
        nearest = _nearest_unit(unit, units)
        raise WrongValueError(
            f"{text!r} is not {kind}", f'did you mean "{number}{nearest}"?' if nearest else hint
        )
    value = Decimal(number) * units[unit]
    if value != int(value):
        raise WrongValueError(f"{text!r} is finer than kfd counts", hint)
    return int(value)


def _nearest_unit(unit: str, units: Mapping[str, int]) -> str | None:
    """The unit that was meant by ``kib``, ``K``, ``sec``, ``msec``, ``days``, ``Min``."""
    wanted = unit.casefold()
    longest_first = sorted(units, key=len, reverse=True)
    begun = [known for known in longest_first if wanted.startswith(known.casefold())]
    short = [known for known in longest_first if wanted and known.casefold().startswith(wanted)]
    return next(iter(begun + short), None)


def _write(value: int, units: Mapping[str, int]) -> str:
    """``value`` in the unit that gives the smallest whole number; empty for 0."""
    fitting = [(value // one, unit) for unit, one in units.items() if value and value % one == 0]
    return "{}{}".format(*min(fitting)) if fitting else ""


def _scaled(value: float, step: int, names: tuple[str, ...]) -> str:
    power = 0
    while round(value) >= step and power < len(names) - 1:
        value /= step
        power += 1
    whole = power == 0 or round(value, 1) >= 10
    return f"{round(value) if whole else _one_decimal(value)} {names[power]}"


def _one_decimal(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
