"""``kfdctl config import`` of the predecessors' service: every key of its section is taken over, or
told with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.ctl.kfdctl import run
from tests.unit.oldconfig.test_import import notes, write

FIRST = 4  # the line of the first key that a test adds
_CLIENTS = "[cluster]\nbootstrap.servers = b1:9092\n"


def imported(
    tmp_path: Path, *keys: str, topic: str = "lab", directory: str = "/lab"
) -> tuple[int, dict[str, Any], str, list[int]]:
    """Exit code, the result, what was said, and of which lines, of a service with these keys."""
    lines = [
        "[openmsi_directory_stream_service]", f"topic_name = {topic}",
        f"file_directory = {directory}", *keys, _CLIENTS,
    ]  # fmt: skip
    old = write(tmp_path / "a.config", "\n".join(lines))
    code, out, err = run("config", "import", old, WANTED="lab")
    return code, yaml.safe_load(out), err, [int(one.partition(":")[2]) for one in notes(err)]


@pytest.mark.parametrize(
    ("given", "line", "upload"),
    [
        ({"directory": "$NODIR"}, 3, {"directory": "/CHANGE-ME", "topic": "lab"}),
        ({"topic": "$NOTOPIC"}, 2, {"directory": "/lab", "topic": "CHANGE-ME"}),
        ({"topic": "$WANTED"}, None, {"directory": "/lab", "topic": "lab"}),
    ],
)
def test_a_variable_of_the_route(
    tmp_path: Path, given: dict[str, str], line: int | None, upload: dict[str, str]
) -> None:
    code, result, err, lines = imported(tmp_path, **given)
    assert (code, lines) == ((0, []) if line is None else (1, [line])), err
    assert result["uploads"]["scope3"] == upload | {"existing": "skip"}


@pytest.mark.parametrize(
    "key", ["chunk_size", "n_threads", "queue_max_size", "new_files_only", "upload_regex"]
)
def test_a_variable_of_any_key(tmp_path: Path, key: str) -> None:
    code, result, err, lines = imported(tmp_path, f"{key} = $NOBODY")
    assert (code, lines) == (1, [FIRST])
    assert "$NOBODY is not set here" in err
    assert result.keys() == {"kafka", "uploads"}


@pytest.mark.parametrize(
    ("written", "bytes_"), [("500000", "262144"), ("1", "1024"), ("1000000000", "67108864")]
)
def test_a_chunk_size_that_is_no_power_of_two(tmp_path: Path, written: str, bytes_: str) -> None:
    code, result, err, lines = imported(tmp_path, f"chunk_size = {written}")
    assert (code, lines) == (0, [FIRST])
    assert result["chunk_size"] == bytes_
    assert written in err


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "n_threads = many"},
        {"key": "n_threads = 5000"},
        {"key": "queue_max_size = -1"},
        {"key": "chunk_size = 16 kB?"},
        {"key": f"chunk_size = {'1' * 5000}"},
        {"key": "[broker]\nsecurity.protocol = xx", "line": FIRST + 1},
        {"directory": "relative/lab", "line": 3},
        {"directory": "", "line": 3},
        {"topic": "no topic", "line": 2},
    ],
)
def test_what_kfd_would_refuse(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """Is told of the old file, not only by ``config check`` of the new one."""
    line = wrong.pop("line", FIRST)
    keys = [wrong.pop("key")] if "key" in wrong else []
    code, _, err, lines = imported(tmp_path, *keys, **wrong)
    assert (code, lines) == (1, [line]), err
    assert "  fix: " in err


def test_a_misspelt_name_that_might_be_a_secrets(tmp_path: Path) -> None:
    code, _, err, lines = imported(tmp_path, "[broker]", "sasl.mechansim = PLAIN")
    assert (code, lines) == (1, [FIRST + 1] * 2)
    assert 'no such property\n  fix: did you mean "sasl.mechanism"?' in err


@pytest.mark.parametrize(
    ("regex", "include"),
    [
        (r".*\.trc$", ["*.trc"]),
        (r"^.*\.trc$", ["*.trc"]),
        (r".*trc", ["*trc*"]),
        (r"^.*run-[0-9]+\.trc$", None),
        (r"sub/.*", None),
        (r".*(a|b)$", None),
        (r".*\d$", None),
        (r".*a.c$", None),  # the point is any character
        (r".*a*$", None),
        (r".*\*$", None),
        ("", None),
    ],
)
def test_which_files(tmp_path: Path, regex: str, include: list[str] | None) -> None:
    code, result, _, lines = imported(tmp_path, f"upload_regex = {regex}")
    assert lines == [FIRST]
    assert code == (1 if include is None else 0)
    assert result["uploads"]["scope3"].get("include") == include


def test_keys_that_are_none_of_the_service(tmp_path: Path) -> None:
    code, result, err, lines = imported(tmp_path, "no_such = secret-text", "update_seconds = 30")
    assert (code, lines) == (0, [FIRST])
    assert "no_such" in err
    assert "secret-text" not in err
    assert result.keys() == {"kafka", "uploads"}


def test_keys_of_all_sections_are_no_news(tmp_path: Path) -> None:
    code, result, err, lines = imported(tmp_path, "", "[DEFAULT]", "client.id = scope", "")
    assert (code, err, lines) == (0, "", [])
    assert result["kafka"]["client.id"] == "scope"


def test_without_a_directory(tmp_path: Path) -> None:
    text = f"[openmsi_directory_stream_service]\ntopic_name = lab\n{_CLIENTS}"
    old = write(tmp_path / "a.config", text)
    code, out, err = run("config", "import", old)
    assert (code, notes(err)) == (1, ["a.config:1"])
    assert "uploads" not in yaml.safe_load(out)
    assert run("config", "import", old, "--upload-dir", tmp_path)[0] == 0


def test_what_the_command_line_says_is_not_asked_of_the_file(tmp_path: Path) -> None:
    text = f"[data_file_directory_uploader]\ntopic_name = $A\nfile_directory = $B\n{_CLIENTS}"
    old = write(tmp_path / "a.config", text)
    code, out, err = run("config", "import", old, "--upload-dir", tmp_path, "--topic", "lab")
    assert (code, err) == (0, "")
    assert yaml.safe_load(out)["uploads"]["scope3"]["directory"] == str(tmp_path)
