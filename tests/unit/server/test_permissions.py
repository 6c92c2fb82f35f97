"""Who may ask for what."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from kfd.daemon.peer import Access, access_of, groups_of, peer_of
from kfd.daemon.server import server
from tests.control import TID, MemoryOperations, quarantined, serving, transfer
from tests.rawclient import Raw
from tests.unit.server.users import NOBODY, as_user, let_all_in, needs_root


def ask_all(path: Path, trace: int) -> dict[str, Any]:
    calls: dict[str, Any] = {
        "Send": {"files": [{"descriptor": 0}]},
        "Wait": {"tids": [TID], "until": "queued"},
        "List": {"limit": 1},
        "GetStatus": {},
        "Metrics": {},
        "Backup": {},
        "Show": {"tid": TID},
        "Events": {"limit": 1},
        "Cancel": {"tid": TID},
        "Retry": {"tids": [TID]},
        "Pause": {},
        "Resume": {},
        "Rescan": {},
        "ListQuarantine": {"limit": 1},
        "ShowQuarantined": {"tid": TID},
        "Release": {"tid": TID},
        "Purge": {"tids": [TID]},
        "Quit": {"now": True},
    }
    answers = {}
    for method, parameters in calls.items():
        with Raw(path) as client:
            answers[method] = client.call(method, parameters, (trace,) if method == "Send" else ())
    with Raw(path) as client:
        answers["by name"] = client.call("Send", {"files": [{"source": "/etc/hostname"}]})
    return answers


def ask_as(path: Path, trace: Path, groups: list[int], gid: int) -> dict[str, str]:
    """The errors, by method, that user nobody gets."""
    with open(trace, "rb") as file:
        answers = as_user(NOBODY, groups, gid, lambda: ask_all(path, file.fileno()))
    return {method: answer.get("error", "") for method, answer in answers.items()}


@pytest.mark.parametrize(("groups", "gid"), [([1, 777], 888), ([1], 777)])
def test_a_member_may_send_and_look(
    socket_path: Path, operations: MemoryOperations, trace: Path, groups: list[int], gid: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    needs_root()
    monkeypatch.setattr(server, "control_gid", lambda _: 777)
    operations.known[TID] = transfer(TID)
    operations.set_aside[TID] = quarantined(TID)
    with serving(socket_path, operations, "lab"):
        let_all_in(socket_path)
        errors = ask_as(socket_path, trace, groups, gid)
    refused = "io.kfd.Control.NotPermitted"
    assert errors == {
        "Send": "", "Wait": "", "List": "", "GetStatus": "", "Quit": refused, "by name": refused,
        "Metrics": "", "Backup": refused,
        "Show": "", "Events": "", "Cancel": refused, "Retry": "", "Pause": refused,
        "Resume": refused, "Rescan": refused,
        "ListQuarantine": "", "ShowQuarantined": "", "Release": refused, "Purge": refused,
    }  # fmt: skip
    assert not operations.paused
    assert operations.sent[0].uid == NOBODY
    assert not operations.stopped.is_set()


def test_a_stranger_may_nothing(
    socket_path: Path, operations: MemoryOperations, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_root()
    monkeypatch.setattr(server, "control_gid", lambda _: 777)
    with serving(socket_path, operations, "lab"):
        let_all_in(socket_path)
        assert set(ask_as(socket_path, trace, [1], 888).values()) == {"io.kfd.Control.NotPermitted"}
        answer = as_user(NOBODY, [], 888, lambda: Raw(socket_path).call("GetStatus"))
    assert answer["parameters"] == {
        "text": f"nobody may not use {socket_path}",
        "fix": "sudo usermod -aG lab nobody, then log in again",
    }
    assert operations.sent == []


def test_a_member_of_very_many_groups_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_root()
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def groups() -> list[int]:
            a, b = socket.socketpair()
            with a, b:
                return sorted(groups_of(a, peer_of(a)))

        many = list(range(5000, 5300))
        assert as_user(NOBODY, many, NOBODY, groups) == sorted(os.getgrouplist("nobody", NOBODY))
        assert as_user(NOBODY, many[:200], 7, groups) == [7, *many[:200]]


def test_the_daemons_own_user_may_all() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert access_of(ours, peer_of(ours), None) is Access.OWNER
        assert peer_of(ours).pid == os.getpid()
