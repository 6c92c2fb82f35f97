"""What is quoted comes out again as it went in, and is never more than one value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kfd.daemon.catalogue.tsql import binary, identifier, literal, moment, qualified
from tests.casjobs.tsql import Token, tokens

# Every character there is, lone surrogates too, and those that languages are broken with.
anything = st.text(st.characters() | st.sampled_from("'\"[];\\-/*\0\n\r\u2028\u02bc\uff07\u202e"))


@given(anything)
@example("'; DROP TABLE kfd_files; --")
@example("\nGO\n")
@example("\udcff\ud800\x00")
def test_a_literal_is_one_token_that_holds_the_text(text: str) -> None:
    token, end = tokens(literal(text))
    assert (token.kind, end.kind) == ("text", "end")
    assert token.value == "".join(c if c.isprintable() else escaped(c) for c in text)


def escaped(character: str) -> str:
    lone_byte = "\udc80" <= character <= "\udcff"
    encoded = (
        bytes([ord(character) - 0xDC00])
        if lone_byte
        else character.encode("utf-8", "surrogatepass")
    )
    return "".join(f"\\x{byte:02x}" for byte in encoded)


@given(anything)
def test_a_literal_is_one_line_that_can_be_sent(text: str) -> None:
    written = literal(text)
    assert written.isprintable()
    assert written.encode().decode() == written


@given(anything, anything)
def test_two_literals_are_told_apart(one: str, other: str) -> None:
    kinds = [token.kind for token in tokens(f"{literal(one)}, {literal(other)}")]
    assert kinds == ["text", "mark", "text", "end"]


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_an_identifier_is_one_name(name: str) -> None:
    token, _ = tokens(identifier(name))
    assert (token.kind, token.value) == ("name", name)


def test_a_qualified_name_has_two() -> None:
    assert [token.value for token in tokens(qualified("dbo.my]files"))[::2]] == ["dbo", "my]files"]


@given(st.binary(max_size=64))
def test_bytes_are_written_as_they_are(value: bytes) -> None:
    assert tokens(binary(value))[0] == Token("binary", "0x" + value.hex(), value)


@pytest.mark.parametrize(
    ("time", "written"),
    [
        (None, "CAST(NULL AS DATETIME2(6))"),
        (
            datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
            "CAST(N'2026-01-02T03:04:05.000006' AS DATETIME2(6))",
        ),
        (
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))),
            "CAST(N'2026-01-02T01:04:05.000000' AS DATETIME2(6))",
        ),
    ],
)
def test_a_moment_is_in_utc(time: datetime | None, written: str) -> None:
    assert moment(time) == written
