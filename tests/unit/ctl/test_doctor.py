"""``kfdctl doctor`` as people see it, and what it makes of what systemd says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kfd.control.examination import Check, Outcome
from kfd.ctl.service import Service
from tests.control import MemoryOperations, serving
from tests.unit.ctl.kfdctl import run, run_json

CHECKS = [
    Check("configuration", Outcome.OK, "/etc/kfd/kfd.yaml is in effect"),
    Check("login", Outcome.SKIPPED, "no broker can be reached"),
    Check("clock", Outcome.WARN, "this host's is 3m behind the brokers'", "let both keep time"),
    Check(
        "downloads.archive",
        Outcome.FAIL,
        "read-only for the service: /data/lab",
        "systemctl edit kfd -> [Service] ReadWritePaths=/data/lab",
    ),
]


@pytest.fixture
def daemon(socket_path: Path, operations: MemoryOperations) -> Iterator[MemoryOperations]:
    operations.checks = list(CHECKS)
    with serving(socket_path, operations):
        yield operations


def test_the_text(socket_path: Path, daemon: MemoryOperations) -> None:
    code, out, err = run("--socket", socket_path, "doctor")
    assert (code, err) == (1, "")
    assert out == (
        "ok   configuration: /etc/kfd/kfd.yaml is in effect\n"
        "-    login: no broker can be reached\n"
        "warn clock: this host's is 3m behind the brokers'\n"
        "       fix: let both keep time\n"
        "FAIL downloads.archive: read-only for the service: /data/lab\n"
        "       fix: systemctl edit kfd -> [Service] ReadWritePaths=/data/lab\n"
        "1 wrong; 1 doubtful; 1 well; 1 not looked at\n"
    )


def test_doubts_alone_are_no_failure(socket_path: Path, daemon: MemoryOperations) -> None:
    daemon.checks = CHECKS[:3]
    assert run("--socket", socket_path, "doctor")[0] == 0


def test_for_programs(socket_path: Path, daemon: MemoryOperations) -> None:
    daemon.checks = CHECKS[:3]
    said = run_json("--socket", socket_path, "doctor")
    assert said["running"] is True
    assert [one["outcome"] for one in said["checks"]] == ["ok", "skipped", "warn"]


def unit(**properties: str) -> Service:
    return Service({"LoadState": "loaded", "ActiveState": "failed", **properties})


@pytest.mark.parametrize(
    ("properties", "text", "fix"),
    [
        ({"ActiveState": "inactive", "Result": "success"}, "is stopped", "systemctl start kfd"),
        (
            {"Result": "exit-code", "ExecMainStatus": "78"},
            "its configuration is refused",
            "kfdctl config check",
        ),
        (
            {"Result": "exit-code", "ExecMainStatus": "77"},
            "it may not use what it needs",
            "kfdctl config check",
        ),
        ({"Result": "exit-code", "ExecMainStatus": "70"}, "it ended with a bug", "report"),
        ({"Result": "watchdog", "ExecMainStatus": "6"}, "it failed (watchdog, status 6)", "log"),
        ({"ActiveState": "active"}, "runs, but its socket", "--socket"),
    ],
)
def test_why_it_does_not_run(properties: dict[str, str], text: str, fix: str) -> None:
    check = unit(**properties).state()
    assert check.outcome is Outcome.FAIL
    assert text in check.text
    assert fix in check.fix


def test_one_that_is_on_its_way_is_no_fault() -> None:
    assert unit(ActiveState="activating").state().outcome is Outcome.WARN


def test_credentials_by_their_names() -> None:
    given = unit(LoadCredential="kafka-password:/etc/kfd/password ca:/etc/ca.pem")
    assert given.credentials == {"kafka-password", "ca"}


def test_what_is_to_be_known_of_a_unit_that_runs() -> None:
    changed = unit(NeedDaemonReload="yes", UnitFileState="disabled")
    assert [check.outcome for check in changed.care()] == [Outcome.WARN, Outcome.WARN]
    (check,) = unit(UnitFileState="enabled", DropInPaths="/etc/a.conf").care()
    assert check.text == "kfd.service, drop-ins: /etc/a.conf"
