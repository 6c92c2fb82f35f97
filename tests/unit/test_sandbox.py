"""What a unit's sandbox forbids, from the properties that ``systemctl show`` gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from kfd.sandbox import Sandbox

RESTART = "; then systemctl restart kfd"

STRICT = {"ProtectSystem": "strict", "ProtectHome": "read-only", "StateDirectory": "kfd"}


def faults(
    properties: dict[str, str], *, read: tuple[str, ...] = (), write: tuple[str, ...] = ()
) -> list[tuple[str, str]]:
    found = Sandbox("kfd", properties).faults(map(Path, read), map(Path, write))
    return [(str(one), one.fix) for one in found]


def test_the_text_of_the_manual() -> None:
    assert faults(STRICT, write=("/data/lab",)) == [
        (
            "read-only for the service: /data/lab",
            "systemctl edit kfd -> [Service] ReadWritePaths=-/data/lab" + RESTART,
        )
    ]


def test_one_drop_in_for_all() -> None:
    found = faults(STRICT, write=("/data/lab", "/srv/done"))
    assert {fix for _, fix in found} == {
        "systemctl edit kfd -> [Service] ReadWritePaths=-/data/lab -/srv/done" + RESTART
    }


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"ProtectSystem": "full", "ProtectHome": "no"},
        {**STRICT, "ReadWritePaths": "/data/lab"},
        {**STRICT, "ReadWritePaths": "/other -/data"},
        {"ProtectSystem": "strict", "ReadWritePaths": "/"},
    ],
)
def test_what_may_be_written(properties: dict[str, str]) -> None:
    assert faults(properties, write=("/data/lab",)) == []


@pytest.mark.parametrize(
    ("properties", "path"),
    [
        ({"ProtectSystem": "yes"}, "/usr/lab"),
        ({"ProtectSystem": "full"}, "/etc/lab"),
        ({"ReadOnlyPaths": "/data"}, "/data/lab"),
        ({**STRICT, "ReadWritePaths": "/data", "ReadOnlyPaths": "/data/lab"}, "/data/lab/x"),
        ({"ProtectHome": "read-only"}, "/home/anna/in"),
    ],
)
def test_what_may_not(properties: dict[str, str], path: str) -> None:
    ((text, _),) = faults(properties, write=(path,))
    assert text == f"read-only for the service: {path}"


def test_what_it_has_of_its_own() -> None:
    assert faults(STRICT, write=("/var/lib/kfd/in",)) == []


@pytest.mark.parametrize(
    ("calls", "allowed"),
    [("", True), ("read write fchown", True), ("read write", False), ("~fchown mount", False)],
)
def test_giving_files_to_a_group(calls: str, *, allowed: bool) -> None:
    fault = Sandbox("kfd", {"SystemCallFilter": calls}).chown_fault("lab")
    assert (fault is None) is allowed
    if fault is not None:
        assert fault.fix == "systemctl edit kfd -> [Service] SystemCallFilter=@chown" + RESTART


def test_what_it_does_not_see() -> None:
    hidden = {"ProtectHome": "yes", "PrivateTmp": "yes", "InaccessiblePaths": "-/secret"}
    found = faults(hidden, read=("/home/anna", "/tmp/x", "/secret/a", "/srv"))
    assert [fix for _, fix in found] == [
        "systemctl edit kfd -> [Service] ProtectHome=read-only" + RESTART,
        "name a directory elsewhere",
        "systemctl edit kfd -> [Service] InaccessiblePaths=" + RESTART,
    ]
    assert faults({"ProtectHome": "read-only"}, read=("/home/anna",)) == []
