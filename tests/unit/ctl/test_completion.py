"""``kfdctl completion``: what the shells make of its scripts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from kfd.ctl import completion
from kfd.ctl.cli import kfdctl
from tests.control import MemoryOperations, busy_status
from tests.support import unavailable


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which ``kfdctl`` is that of this checkout, and no daemon runs."""
    program = tmp_path / "bin" / "kfdctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m kfd.ctl "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "KFD_SOCKET": "/nowhere", "HOME": str(tmp_path)}


def _in(shell: str, environment: dict[str, str], text: str) -> str:
    if shutil.which(shell) is None:
        unavailable(f"{shell} is not installed")
    done = subprocess.run(
        [shell, "-c", text], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [("st", "status"), ("comp", "completion"), ("send --recu", "--recursive")],
)
def test_bash_completes(environment: dict[str, str], words: str, completed: str) -> None:
    number = len(words.split())
    shown = _in(
        "bash",
        environment,
        f"source <(kfdctl completion bash); COMP_WORDS=(kfdctl {words}); COMP_CWORD={number};"
        ' _kfdctl_completion kfdctl; printf "%s\\n" "${COMPREPLY[@]}"',
    )
    assert completed in shown.split()


def test_fish_completes(environment: dict[str, str]) -> None:
    text = "kfdctl completion fish | source; complete -C 'kfdctl stat'"
    assert "status" in _in("fish", environment, text).split()


def test_zsh_reads_its_script(environment: dict[str, str]) -> None:
    _in("zsh", environment, "kfdctl completion zsh >script && zsh -n script")


@pytest.mark.parametrize("verb", ["pause", "resume", "rescan", "list --route"])
def test_routes_are_completed_from_the_daemon(
    environment: dict[str, str], verb: str, served: Path, operations: MemoryOperations
) -> None:
    operations.now = busy_status()
    asked = environment | {
        "KFD_SOCKET": str(served),
        "_KFDCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": f"kfdctl {verb} ",
        "COMP_CWORD": str(len(verb.split()) + 1),
    }
    wanted = {"plain,scope3", "plain,xrd1"} | ({"plain,archive"} if verb != "rescan" else set())
    assert set(_in("sh", asked, "kfdctl").split()) == wanted


def test_without_a_daemon_routes_are_those_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kfd.yaml"
    file.write_text(
        "kafka: {bootstrap.servers: localhost:9}\n"
        f"uploads: {{scope3: {{directory: {tmp_path}/up, topic: t}}}}\n"
        f"downloads: {{archive: {{directory: {tmp_path}/down, topic: t}}}}\n"
    )
    files = {"kfd@lab2": file}
    monkeypatch.setattr(completion, "config_of", files.__getitem__)
    monkeypatch.setenv("KFD_SOCKET", "/run/kfd-lab2/kfd.sock")
    context = click.Context(kfdctl)
    parameter = click.Argument(["route"])
    found = [one.value for one in completion.complete_route(context, parameter, "")]
    assert found == ["archive", "scope3"]
    assert [one.value for one in completion.complete_upload(context, parameter, "s")] == ["scope3"]
    monkeypatch.setenv("KFD_SOCKET", "/nowhere")
    assert completion.complete_route(context, parameter, "") == []
    monkeypatch.setenv("KFD_SOCKET", "/run/kfd-lab2/kfd.sock")
    file.write_text("nonsense")
    assert completion.complete_route(context, parameter, "") == []


def test_a_daemon_that_stands_still_holds_no_shell_up(
    environment: dict[str, str], socket_path: Path
) -> None:
    """It takes connections as long as there is room for them, and answers none."""
    asked = environment | {
        "KFD_SOCKET": str(socket_path),
        "_KFDCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "kfdctl pause ",
        "COMP_CWORD": "2",
    }
    with socket.socket(socket.AF_UNIX) as silent:
        socket_path.parent.mkdir(exist_ok=True)
        silent.bind(str(socket_path))
        silent.listen()
        done = subprocess.run(
            ["kfdctl"], env=asked, capture_output=True, text=True, check=False, timeout=30
        )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_without_a_daemon_routes_are_just_not_completed(environment: dict[str, str]) -> None:
    asked = environment | {
        "_KFDCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "kfdctl send --route ",
        "COMP_CWORD": "3",
    }
    assert _in("sh", asked, "kfdctl").strip() == ""
