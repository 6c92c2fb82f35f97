"""Paths: what may come over the wire, safe display, layouts and conflict names."""

from __future__ import annotations

import base64
import os.path
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kfd.paths import (
    MAX_DEPTH,
    MAX_NAME,
    MAX_PATH,
    BadPath,
    Layout,
    check_wire_path,
    conflict_name,
    escape,
    to_json,
)

TID = bytes(range(16))
ID = "000102030405060708090a0b0c0d0e0f"
components = st.one_of(
    st.sampled_from([b"", b".", b"..", b".kfd", b"a", b"...", b" "]), st.binary(max_size=12)
)
path_like = st.lists(components, max_size=MAX_DEPTH + 2).map(b"/".join)


@pytest.mark.parametrize(
    "path",
    [
        b"a",
        b"a/b/c.trc",
        b"...",
        b"..a/.b",
        b".kfd2/x",
        b"a/.kfd/x",
        b" ",
        b"-rf",
        b"a;b|c",
        b"\n",
        b"\xff\xfe",
        "Größe/日本".encode(),
        b"n" * MAX_NAME,
        b"/".join([b"n" * MAX_NAME] * 4),
        b"/".join([b"n" * 204] * 5),  # 1024 bytes
        b"/".join([b"d"] * MAX_DEPTH),
    ],
)
def test_any_legal_name_may_come(path: bytes) -> None:
    check_wire_path(path)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (b"", "empty"),
        (b"/", "starts with"),
        (b"/etc/passwd", "starts with"),
        (b"a\0b", "NUL"),
        (b"a//b", "component of the path is empty"),
        (b"a/", "component of the path is empty"),
        (b".", r"'\.'"),
        (b"a/./b", r"'\.'"),
        (b"..", r"'\.\.'"),
        (b"a/../../b", r"'\.\.'"),
        (b".kfd", "belongs to kfd"),
        (b".kfd/owner", "belongs to kfd"),
        (b"n" * (MAX_NAME + 1), "255 bytes"),
        (b"/".join([b"n" * 204] * 5) + b"x", "1024 bytes"),
        (b"/".join([b"d"] * (MAX_DEPTH + 1)), "32 components"),
    ],
)
def test_what_may_not_come_is_refused_with_a_reason(path: bytes, reason: str) -> None:
    with pytest.raises(BadPath, match=reason):
        check_wire_path(path)


@given(path_like)
@example(b"a/../b")
def test_a_path_that_passes_stays_inside_and_is_what_it_seems(path: bytes) -> None:
    try:
        check_wire_path(path)
    except BadPath:
        return
    assert os.path.normpath(path) == path
    joined = os.path.normpath(os.path.join(b"/srv/route", path))
    assert joined == b"/srv/route/" + path
    assert not joined.startswith(b"/srv/route/.kfd/")
    assert joined != b"/srv/route/.kfd"


def unescape(text: str) -> bytes:
    """The inverse of escape, as a reader of its description would write it."""
    plain = re.compile(rb"\\(?:x([0-9a-f]{2})|\\)")
    return plain.sub(
        lambda match: bytes.fromhex(match[1].decode()) if match[1] else b"\\", text.encode()
    )


@given(st.one_of(st.binary(), st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))))
@example(b"\\x41")
@example("a\u202egnp.exe".encode())
@example(b"\xed\xb3\xbf")
@example(b"\xc3")
def test_escape_is_printable_and_can_be_turned_back(path: bytes) -> None:
    text = escape(path)
    assert text.isprintable()
    assert not {unicodedata.category(character) for character in text} & {"Cc", "Cf", "Cs", "Zl"}
    assert unescape(text) == path


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"run 42.trc", "run 42.trc"),
        ("Größe/日本".encode(), "Größe/日本"),
        (b"a\\b", "a\\\\b"),
        (b"a\nb\x1b[31m", "a\\x0ab\\x1b[31m"),
        (b"\xff", "\\xff"),
        ("\u202egnp".encode(), "\\xe2\\x80\\xaegnp"),
        ("a\u2028b".encode(), "a\\xe2\\x80\\xa8b"),
    ],
)
def test_escape(path: bytes, text: str) -> None:
    assert escape(path) == text


def test_json_has_base64_where_the_text_is_not_the_path() -> None:
    assert to_json("Größe".encode()) == ("Größe", None)
    assert to_json(b"\xff") == ("\\xff", "/w==")
    assert to_json(b"a\\b") == ("a\\\\b", base64.b64encode(b"a\\b").decode())


@given(st.binary())
def test_json_always_gives_the_path_back(path: bytes) -> None:
    text, encoded = to_json(path)
    assert (text.encode() if encoded is None else base64.b64decode(encoded)) == path


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("{path}", b"a/b"),
        ("{origin}/{path}", b"scope3/a/b"),
        ("{topic}/{origin}/{path}", b"lecroy/scope3/a/b"),
        ("in/from-{origin}/{path}", b"in/from-scope3/a/b"),
        ("{origin}{topic}/{origin}/{path}", b"scope3lecroy/scope3/a/b"),
        ("Größe/{path}", "Größe/a/b".encode()),
    ],
)
def test_layout(text: str, expanded: bytes) -> None:
    layout = Layout.parse(text)
    assert layout.text == text
    assert layout.expand("scope3", b"a/b", "lecroy") == expanded


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "exactly once"),
        ("{origin}", "exactly once"),
        ("{path}/{path}", "exactly once"),
        ("{host}/{path}", "knows only"),
        ("{/{path}", "knows only"),
        ("{{path}}", "knows only"),
        ("{path}}", "knows only"),
        ("{path!r}", "knows only"),
        ("{path}/{origin}", "last component"),
        ("{origin}{path}", "last component"),
        ("{path}.bak", "last component"),
        ("/{path}", "starts with"),
        ("../{path}", r"'\.\.'"),
        ("a//{path}", "empty"),
        (".kfd/{path}", "belongs to kfd"),
        ("a\0/{path}", "NUL"),
        ("\udcff/{path}", "surrogates"),
    ],
)
def test_a_layout_that_cannot_work_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Layout.parse(text)


@pytest.mark.parametrize("origin", ["..", "a/../..", "", ".kfd"])
def test_an_expanded_layout_obeys_the_rules_too(origin: str) -> None:
    with pytest.raises(BadPath):
        Layout.parse("{origin}/{path}").expand(origin, b"a", "t")


def test_an_expanded_path_may_become_too_long() -> None:
    layout = Layout.parse("{origin}/{path}")
    longest = b"/".join([b"n" * 204] * 5)
    check_wire_path(longest)
    with pytest.raises(BadPath, match="1024"):
        layout.expand("o", longest, "t")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"run.trc", f"run.conflict-{ID}.trc"),
        (b"run", f"run.conflict-{ID}"),
        (b"a.tar.gz", f"a.tar.conflict-{ID}.gz"),
        (b".bashrc", f".bashrc.conflict-{ID}"),
        (b"dot.", f"dot.conflict-{ID}."),
        (b"x.a-long-tail-of-a-name", f"x.a-long-tail-of-a-name.conflict-{ID}"),
    ],
)
def test_conflict_name(name: bytes, expected: str) -> None:
    assert conflict_name(name, TID) == expected.encode()


@given(st.binary(min_size=1, max_size=MAX_NAME).filter(lambda name: not {0, 47} & {*name}))
@example(b"\x80" * MAX_NAME)
@example(b"n" * 251 + b".trc")
def test_a_conflict_name_is_a_legal_name_with_the_whole_tid(name: bytes) -> None:
    result = conflict_name(name, TID)
    check_wire_path(result)
    assert b".conflict-" + ID.encode() in result


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
@example("é" * 127)
@example("日" * 85)
@example("😀" * 63)
@example("a" + "😀" * 63)
@example("aa" + "😀" * 63)
@example("aaa" + "😀" * 63)
def test_a_conflict_name_cuts_no_character(name: str) -> None:
    encoded = name.encode()
    if len(encoded) <= MAX_NAME:
        conflict_name(encoded, TID).decode()


def test_a_long_conflict_name_keeps_the_extension_and_uses_the_room() -> None:
    result = conflict_name(b"n" * 251 + b".trc", TID)
    assert len(result) == MAX_NAME
    assert result.endswith(f".conflict-{ID}.trc".encode())


def test_the_limits_are_those_of_the_format() -> None:
    assert (MAX_PATH, MAX_NAME, MAX_DEPTH) == (1024, 255, 32)
