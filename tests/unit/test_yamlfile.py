"""YAML as text with places: nothing is guessed from how a value looks, nothing grows, no leaks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kfd import yamlfile
from kfd.errors import ConfigError, ExitCode, KfdError
from kfd.yamlfile import Places, parse, read
from tests.privileges import unprivileged


@pytest.mark.parametrize(
    "text",
    [
        "yes",
        "no",
        "on",
        "null",
        "~",
        "1e5",
        "0640",
        "0x10",
        "12:30:45",
        "2024-01-01",
        "1_000",
        ".5",
    ],
)
def test_a_scalar_stays_the_text_that_was_written(text: str) -> None:
    assert parse(f"key: {text}\n", "f").value == {"key": text}
    assert parse(f'key: "{text}"\n', "f").value == {"key": text}


def test_nothing_written_is_none_and_quotes_make_an_empty_text() -> None:
    assert parse("a:\nb: ''\nc: []\nd: {}\n", "f").value == {"a": None, "b": "", "c": [], "d": {}}


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n"])
def test_an_empty_file_is_none(text: str) -> None:
    assert parse(text, "f").value is None


def test_every_key_and_item_has_its_place() -> None:
    places = parse("# c\na:\n  b: 1\n  c:\n    - x\n    - y\nd: {e: 2}\n", "kfd.yaml").places
    assert dict(places.by_key) == {
        (): "kfd.yaml:1",
        ("a",): "kfd.yaml:2",
        ("a", "b"): "kfd.yaml:3",
        ("a", "c"): "kfd.yaml:4",
        ("a", "c", 0): "kfd.yaml:5",
        ("a", "c", 1): "kfd.yaml:6",
        ("d",): "kfd.yaml:7",
        ("d", "e"): "kfd.yaml:7",
    }
    assert places.where(("a", "b", "missing", "deeper")) == "kfd.yaml:3"
    assert places.where(("unknown",)) == "kfd.yaml:1"


def test_without_places_nothing_is_named() -> None:
    assert Places().where(("a",)) == ""


def test_a_key_written_twice_is_noted_and_the_first_counts() -> None:
    document = parse("a: 1\nb: {c: 1, c: 2}\na: 3\n", "f")
    assert document.value == {"a": "1", "b": {"c": "1"}}
    assert document.duplicates == ((("b", "c"), "f:2"), (("a",), "f:3"))


@given(
    st.dictionaries(st.text(st.characters(codec="ascii", categories=["L"]), min_size=1), st.text())
)
def test_whatever_text_is_written_is_read(mapping: dict[str, str]) -> None:
    written = yaml.safe_dump(mapping, default_style='"')
    assert parse(written, "f").value == mapping


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        (
            "\n\na: b: c\n",
            "f:3: not valid YAML",
            "check the indentation, and quote text that holds ': '",
        ),
        (
            "\n\n\ta: b\n",
            "f:3: not valid YAML",
            "indent with spaces, not tabs",
        ),
        (
            "a: 1\n\nsecret-x\n",
            "f:4: not valid YAML",
            "write KEY: VALUE, with a space after the colon",
        ),
        (
            "a: 1\nb: [secret-x\n",
            "f:3: not valid YAML",
            "check indentation, brackets and quotes up to this line",
        ),
        (
            "a: 'secret-x\n",
            "f:2: not valid YAML",
            "check indentation, brackets and quotes up to this line",
        ),
        (
            "a: 1\n--- \nb: 2\n",
            "f:2: not valid YAML",
            "check indentation, brackets and quotes up to this line",
        ),
        (
            "a: 1\nb: *secret-x\n",
            "f:2: aliases (*name) are not used here",
            "write the value out; put text that begins with * in quotes",
        ),
        (
            "a: &secret-x\n",
            "f:1: anchors (&name) are not used here",
            "write the value out; put text that begins with & in quotes",
        ),
        (
            "a: !secret-x y\n",
            "f:1: tags (!name) are not used here",
            "write the value out; put text that begins with ! in quotes",
        ),
        ("a: 1\n? [secret-x]\n: 2\n", "f:2: a key that is a list or a mapping", "write KEY: VALUE"),
        ("a: 1\nb: secret-x\x07\n", "f:2: a control character", "write plain text"),
        ("a: " + "[" * 40, "f:1: nested too deep", "at most 32 levels"),
    ],
)
def test_what_is_not_taken_names_line_and_fix_and_quotes_nothing(
    text: str, what: str, fix: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    assert (str(caught.value), caught.value.fix) == (what, fix)
    assert "secret-x" not in str(caught.value) + caught.value.fix


@given(
    st.text(max_size=60) | st.lists(st.sampled_from(list("a:-[]{}'\"&*!?|>%#\n\t ,"))).map("".join)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    fault = wrong(text)
    assert fault is None or (fault.where.startswith("f:") and fault.fix)


def wrong(text: str) -> ConfigError | None:
    try:
        parse(text, "f")
    except ConfigError as error:
        return error
    return None


def test_a_bomb_of_depth_or_aliases_is_refused_at_once() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(50))
    for text in (bomb, "[" * 100_000, "- " * 50_000, "{a: " * 50_000):
        with pytest.raises(ConfigError):
            parse(text, "f")


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "kfd.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\r\nb: 2\r\n")
    assert read(path).value == {"a": "é", "b": "2"}


def refused(path: Path) -> KfdError:
    with pytest.raises(KfdError) as caught:
        read(path)
    assert caught.value.fix
    return caught.value


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    error = refused(tmp_path / "kfd.yaml")
    assert str(error) == f"{tmp_path}/kfd.yaml: no such file"
    assert error.exit_code == ExitCode.CONFIGURATION


def test_a_directory_and_a_fifo_are_no_configuration(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert str(error) == f"{tmp_path}: not readable: Is a directory"
    assert error.exit_code == ExitCode.CONFIGURATION
    os.mkfifo(tmp_path / "fifo")
    assert read(tmp_path / "fifo").value is None  # empty, and above all not waiting for a writer


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "kfd.yaml"
    path.write_text("a: 1\n")
    path.chmod(0)
    with unprivileged():
        error = refused(path)
    assert str(error) == f"{path}: not readable by nobody"
    assert error.exit_code == ExitCode.PERMISSION


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "kfd.yaml"
    path.write_bytes(b"a: 1\nb: \xe9\n")
    assert str(refused(path)) == "kfd.yaml:2: not UTF-8"


def test_a_file_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "kfd.yaml"
    path.write_bytes(b"#" * (yamlfile.MAX_BYTES + 1))
    assert str(refused(path)) == f"{path}: longer than 256 KiB"
