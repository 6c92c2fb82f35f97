"""``kfdctl reload`` as people and programs see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kfd.errors import ConfigError, PermissionProblemError, all_of
from tests.control import MemoryOperations, serving
from tests.unit.ctl.kfdctl import run, run_json


@pytest.fixture
def daemon(socket_path: Path, operations: MemoryOperations) -> Iterator[MemoryOperations]:
    with serving(socket_path, operations):
        yield operations


def test_what_was_done(socket_path: Path, daemon: MemoryOperations) -> None:
    assert run("--socket", socket_path, "reload") == (
        0,
        "/etc/kfd/kfd.yaml is in effect: added uploads.xrd1.\n",
        "! needs a restart: queue.size\n  fix: systemctl restart kfd\n",
    )
    said = run_json("--socket", socket_path, "reload")["reloaded"]
    assert (said["added"], said["restart"]) == (["uploads.xrd1"], ["queue.size"])


def test_every_fault_with_its_place(socket_path: Path, daemon: MemoryOperations) -> None:
    daemon.failure = all_of(
        [
            ConfigError("uploads.a.topc: unknown key", where="kfd.yaml:7", fix="topic"),
            PermissionProblemError("read-only for the service: /data", fix="systemctl edit kfd"),
        ]
    )
    assert run("--socket", socket_path, "reload") == (
        78,
        "",
        "kfd.yaml:7: uploads.a.topc: unknown key\n  fix: topic\n"
        "kfdctl: read-only for the service: /data\n  fix: systemctl edit kfd\n",
    )


def test_the_exit_code_of_what_is_not_permitted(
    socket_path: Path, daemon: MemoryOperations
) -> None:
    daemon.failure = PermissionProblemError("read-only", where="/data", fix="mend it")
    assert run("--socket", socket_path, "reload")[0] == 77
