"""Durations, sizes and rates: what is read, what is refused, and that writing loses nothing."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfd.units import (
    WrongValueError,
    human_duration,
    human_rate,
    human_size,
    parse_duration,
    parse_rate,
    parse_size,
    write_duration,
    write_rate,
    write_size,
)

CENTURY_MS = 36_500 * 86_400_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("24h", 86400.0),
        ("90d", 7776000.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("0.1s", 0.1),
        ("0s", 0.0),
        ("2 h", 7200.0),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512KiB", 524288),
        ("20GiB", 20 * 2**30),
        ("1TiB", 2**40),
        ("10MB", 10_000_000),
        ("1.5 MiB", 1572864),
        ("16384", 16384),
        ("7B", 7),
        ("0", 0),
    ],
)
def test_a_size_is_read_in_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_rate_is_a_size_a_second_or_none() -> None:
    assert parse_rate("20MiB") == 20 * 2**20
    assert parse_rate("none") is None
    with pytest.raises(WrongValueError, match="nothing would be sent at that rate"):
        parse_rate("0")


DURATION_HINT = "write it like 30s, 5m, 24h, 90d"
SIZE_HINT = "write it like 512KiB, 20GiB, 10MB, or in bytes"


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("30 sec", 'did you mean "30s"?'),
        ("5min", 'did you mean "5m"?'),
        ("2msec", 'did you mean "2ms"?'),
        ("90days", 'did you mean "90d"?'),
        ("24H", 'did you mean "24h"?'),
        ("30", DURATION_HINT),
        ("", DURATION_HINT),
        ("-5s", DURATION_HINT),
        ("1e3s", DURATION_HINT),
        ("5s ", DURATION_HINT),
        ("٣s", DURATION_HINT),
        ("nan", DURATION_HINT),
        ("5 years", DURATION_HINT),
    ],
)
def test_what_is_no_duration_is_refused_with_the_nearest(text: str, fix: str) -> None:
    with pytest.raises(WrongValueError) as caught:
        parse_duration(text)
    assert (str(caught.value), caught.value.fix) == (f"{text!r} is not a duration", fix)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("512kib", 'did you mean "512KiB"?'),
        ("5K", 'did you mean "5KiB"?'),
        ("3Mb", 'did you mean "3MB"?'),
        ("10 gigabytes", SIZE_HINT),
        ("GiB", SIZE_HINT),
        ("-1", SIZE_HINT),
        ("0x10", SIZE_HINT),
        ("1,5MiB", SIZE_HINT),
        ("1%", SIZE_HINT),
    ],
)
def test_what_is_no_size_is_refused_with_the_nearest(text: str, fix: str) -> None:
    with pytest.raises(WrongValueError) as caught:
        parse_size(text)
    assert (str(caught.value), caught.value.fix) == (f"{text!r} is not a size", fix)


@pytest.mark.parametrize("text", ["0.5B", "0.0001ms"])
def test_fractions_that_would_be_lost_are_refused(text: str) -> None:
    parse = parse_size if text.endswith("B") else parse_duration
    with pytest.raises(WrongValueError, match="finer than kfd counts"):
        parse(text)


def test_what_cannot_be_held_is_refused() -> None:
    with pytest.raises(WrongValueError, match="too long"):
        parse_duration("36501d")
    with pytest.raises(WrongValueError, match="too large"):
        parse_size("8192PiB")
    assert parse_size(str(2**63 - 1)) == 2**63 - 1


@given(st.integers(0, CENTURY_MS))
def test_a_written_duration_reads_back(milliseconds: int) -> None:
    assert parse_duration(write_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, 2**63 - 1))
def test_a_written_size_reads_back(size: int) -> None:
    assert parse_size(write_size(size)) == size


@given(st.none() | st.integers(1, 2**63 - 1))
def test_a_written_rate_reads_back(rate: int | None) -> None:
    assert parse_rate(write_rate(rate)) == rate


@given(st.text(max_size=30))
def test_any_other_text_is_a_wrong_value_and_no_other_error(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_rate):
        fault = wrong(parse, text)
        assert fault is None or fault.fix


def wrong(parse: Callable[[str], object], text: str) -> WrongValueError | None:
    try:
        parse(text)
    except WrongValueError as error:
        return error
    return None


def test_written_values_are_short() -> None:
    assert [write_duration(s) for s in (0, 0.5, 3, 90, 7776000)] == [
        "0s",
        "500ms",
        "3s",
        "90s",
        "90d",
    ]
    assert [write_size(s) for s in (0, 524288, 10**7, 2**40, 7)] == [
        "0B",
        "512KiB",
        "10MB",
        "1TiB",
        "7B",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (0.04, "0s"),
        (2, "2s"),
        (4.5, "4.5s"),
        (9.96, "10s"),
        (59.7, "1m"),
        (302, "5m 2s"),
        (3600, "1h"),
        (3 * 86400 + 4 * 3600 + 59, "3d 4h"),
        (3 * 86400 + 59, "3d"),
    ],
)
def test_a_duration_is_shown_by_its_two_largest_units(seconds: float, shown: str) -> None:
    assert human_duration(seconds) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1 MiB"),
        (612 * 2**20, "612 MiB"),
        (81 * 2**30, "81 GiB"),
        (2**63 - 1, "8 EiB"),
    ],
)
def test_a_size_is_shown_in_binary_units(size: int, shown: str) -> None:
    assert human_size(size) == shown


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(0, "0"), (5, "5 B/s"), (42e6, "42 MB/s"), (118.4e6, "118 MB/s"), (1.49e9, "1.5 GB/s")],
)
def test_a_rate_is_shown_in_decimal_units(rate: float, shown: str) -> None:
    assert human_rate(rate) == shown


@given(st.integers(0, 2**63 - 1))
def test_a_shown_size_is_near_and_has_at_most_four_digits(size: int) -> None:
    number, unit = human_size(size).split()
    assert re.fullmatch(r"[0-9]{1,4}|[0-9]\.[0-9]", number)
    scale = 1024 ** ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB").index(unit)
    assert abs(float(number) * scale - size) <= max(0.06 * size, 0.5)
