"""``kfdctl config``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.ctl.kfdctl import Terminal, run, run_json


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    upload = tmp_path / "in"
    (upload / "sub").mkdir(parents=True)
    (upload / ".kfd").mkdir()
    for name in ("a", "sub/b", "sub/c.tmp", ".kfd/x", ".hidden"):
        (upload / name).write_bytes(b"x" * 1024)
    path = tmp_path / "kfd.yaml"
    path.write_text(
        "kafka:\n  bootstrap.servers: k:9092\n  sasl.password: topsecret\n"
        f"uploads:\n  scope3:\n    directory: {upload}\n    topic: t\n"
    )
    return path


def test_config_check_counts_what_waits(configuration: Path, tmp_path: Path) -> None:
    code, out, err = run("config", "check", "--config", configuration)
    assert (code, err) == (0, "")
    assert out == (
        f"{configuration}: valid; 1 upload, 0 downloads\nscope3: 2 files, 2 KiB in {tmp_path}/in\n"
    )
    checked = run_json("config", "check", "--config", configuration)
    assert checked["valid"] is True
    assert (checked["uploads"][0]["files"], checked["uploads"][0]["bytes"]) == (2, 2048)


def test_config_check_tells_every_fault(configuration: Path) -> None:
    configuration.write_text(configuration.read_text().replace("topic: t", "topc: t\n    sned: x"))
    code, out, err = run("config", "check", "--config", configuration)
    assert (code, out) == (78, "")
    assert 'kfd.yaml:7: uploads.scope3.topc: unknown key\n  fix: did you mean "topic"?' in err
    assert "kfd.yaml:8: uploads.scope3.sned: unknown key" in err
    assert "Traceback" not in err


def test_config_check_says_which_directory_is_missing(configuration: Path, tmp_path: Path) -> None:
    (tmp_path / "in").rename(tmp_path / "away")
    code, _, err = run("config", "check", "--config", configuration)
    assert (code, err) == (1, f"! scope3: {tmp_path}/in: No such file or directory\n")


def test_a_directory_moves_no_cursor(configuration: Path, tmp_path: Path) -> None:
    """Neither one that is there nor one that isn't."""
    strange = tmp_path / "i\x1b[31m\x07n"
    text = configuration.read_text()
    configuration.write_text(text.replace(f"{tmp_path}/in", f'"{tmp_path}/i\\e[31m\\an"'))
    for _ in range(2):
        terminal = Terminal("config", "check", configuration)
        terminal.end()
        assert "i\\x1b[31m\\x07n" in "".join(terminal.lines)
        assert not {"\x1b", "\x07"} & set(terminal.screen)
        if not strange.exists():
            strange.mkdir()


def test_config_show_hides_secrets(configuration: Path) -> None:
    code, out, _ = run("config", "show", "--config", configuration)
    assert code == 0
    assert "topsecret" not in out
    assert "chunk_size: 512KiB" in out
    assert "topsecret" not in json.dumps(run_json("config", "show", "--config", configuration))


def test_config_needs_the_file(tmp_path: Path) -> None:
    code, _, err = run("config", "check", "--config", tmp_path / "none.yaml")
    assert code == 78
    assert "none.yaml" in err
