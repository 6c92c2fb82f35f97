"""What an independent client and wrong requests get from the control server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import varlink

from kfd.control import METHODS, State
from kfd.varlink import SERVICE
from tests.control import VERSION, MemoryOperations, quarantined
from tests.rawclient import Raw


@pytest.fixture
def independent(served: Path) -> Iterator[Any]:
    with (
        varlink.Client(address=f"unix:{served}") as client,
        client.open("io.kfd.Control", namespaced=True) as connection,
    ):
        yield connection


def test_an_independent_client_calls_every_method(
    independent: Any, operations: MemoryOperations, trace: Path
) -> None:
    called = {
        "Send": independent.Send(files=[{"source": str(trace)}], meta={"run": "42"}),
        "GetStatus": independent.GetStatus(),
        "List": independent.List(limit=5),
    }
    tid = called["Send"].files[0].tid
    called["Wait"] = list(independent.Wait([tid], "in_kafka", _more=True))
    called["Show"] = independent.Show(tid)
    called["Events"] = independent.Events(limit=5)
    called["Retry"] = independent.Retry([tid])
    called["Pause"] = list(independent.Pause("scope3", _more=True))
    called["Resume"] = independent.Resume()
    called["Rescan"] = independent.Rescan("scope3")
    operations.update(tid, state=State.SENDING)
    called["Cancel"] = independent.Cancel(tid)
    called["Reload"] = independent.Reload()
    called["Metrics"] = independent.Metrics()
    with pytest.raises(varlink.VarlinkError):  # this client passes no descriptors
        called["Backup"] = independent.Backup()
    called.setdefault("Backup", None)
    called["Doctor"] = list(independent.Doctor(_more=True))
    called["Acls"] = independent.Acls()
    called["ListCatalogues"] = independent.ListCatalogues(limit=5)
    called["AddToCatalogue"] = independent.AddToCatalogue(files=[{"source": str(trace)}])
    called["WaitForCatalogue"] = list(independent.WaitForCatalogue([tid], _more=True))
    called["RetryCatalogue"] = independent.RetryCatalogue(all=True)
    operations.set_aside[tid] = quarantined(tid)
    called["ListQuarantine"] = independent.ListQuarantine(limit=5)
    called["ShowQuarantined"] = independent.ShowQuarantined(tid)
    called["Release"] = independent.Release(tid)
    called["Purge"] = independent.Purge(all=True)
    called["Quit"] = list(independent.Quit(_more=True))
    assert called.keys() == METHODS.keys()
    assert operations.contents == [b"volts"]
    assert operations.sent[0].meta == {"run": "42"}
    assert called["GetStatus"].status.version == VERSION
    assert [one.tid for one in called["List"].transfers] == [tid]
    assert called["Wait"][-1].transfers[0].state == "in_kafka"
    assert called["Quit"][-1].stopping is True
    assert operations.stopped.wait(10)


def test_an_independent_client_gets_errors_by_name(served: Path) -> None:
    with (
        varlink.Client(address=f"unix:{served}") as client,
        client.open("io.kfd.Control") as connection,
    ):
        with pytest.raises(varlink.VarlinkError) as caught:
            connection.Wait(["0" * 8], "in_kafka")
        assert caught.value.error() == "io.kfd.Control.NoSuchTransfer"
        with pytest.raises(varlink.VarlinkError) as caught:
            connection.List(limit=0)
        assert caught.value.error() == "org.varlink.service.InvalidParameter"


def test_the_service_says_what_it_is(served: Path) -> None:
    with varlink.Client(address=f"unix:{served}") as client:
        info = client.get_interfaces()
        assert set(info) >= {"io.kfd.Control", SERVICE}
        with client.open(SERVICE) as connection:
            assert connection.GetInfo()["version"] == VERSION
            assert "GetInfo" in connection.GetInterfaceDescription(SERVICE)["description"]


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("io.kfd.Control.Nothing", "MethodNotFound"),
        ("org.varlink.service.Nothing", "MethodNotFound"),
        ("io.kfd.Other.Status", "InterfaceNotFound"),
        ("Status", "InterfaceNotFound"),
        ("", "InterfaceNotFound"),
    ],
)
def test_what_is_not_there_is_told_by_name(raw: Raw, method: str, error: str) -> None:
    raw.socket.sendall(json.dumps({"method": method}).encode() + b"\0")
    assert raw.read()["error"] == f"{SERVICE}.{error}"
    assert "status" in raw.call("GetStatus")["parameters"]


@pytest.mark.parametrize(
    ("method", "parameters", "field"),
    [
        ("Send", {}, "files"),
        ("Send", {"files": []}, "files"),
        ("Send", {"files": [{"descriptor": 0}]}, "files[0].descriptor"),
        ("Send", {"files": [{"descriptor": -1}]}, "files[0].descriptor"),
        ("Send", {"files": [{}]}, "files[0]"),
        ("Send", {"files": [{"source": "relative"}]}, "files[0].source"),
        ("Send", {"files": [{"source": "/a", "source_base64": "L2E="}]}, "files[0].source"),
        ("Send", {"files": [{"source": "/a", "name": "a\0b"}]}, "files[0].name"),
        ("Send", {"files": [{"source": "/a"}], "meta": {"k": "v" * 4096}}, "meta"),
        ("Send", {"files": [{"source": "/a"}], "meta": {"k": "\0"}}, "meta"),
        ("Wait", {"tids": [], "until": "queued"}, "tids"),
        ("Wait", {"tids": ["xyz"], "until": "queued"}, "tids[0]"),
        ("WaitForCatalogue", {"tids": ["0" * 8]}, "tids[0]"),  # the end of one isn't looked up
        ("List", {"limit": 10_001}, "limit"),
        ("Quit", {"timeout": -1}, "timeout"),
        ("GetStatus", {"verbose": True}, "verbose"),
    ],
)
def test_wrong_parameters_are_named(
    raw: Raw, method: str, parameters: dict[str, Any], field: str
) -> None:
    answer = raw.call(method, parameters)
    assert answer["error"] == f"{SERVICE}.InvalidParameter"
    assert answer["parameters"]["parameter"].startswith(f"{field}")
    assert "status" in raw.call("GetStatus")["parameters"]


def test_a_refusal_carries_its_fix_and_exit_code(raw: Raw, trace: Path) -> None:
    answer = raw.call("Send", {"files": [{"source": str(trace)}], "route": "locked"})
    assert answer == {
        "error": "io.kfd.Control.Refused",
        "parameters": {
            "text": "route locked takes no files", "fix": "set send: true", "exit_code": 1,
        },
    }  # fmt: skip


def test_one_way_calls_are_done_and_not_answered(
    raw: Raw, operations: MemoryOperations, trace: Path
) -> None:
    raw.write("Send", {"files": [{"source": str(trace)}]}, oneway=True)
    raw.write("Nothing", oneway=True)
    assert "status" in raw.call("GetStatus")["parameters"]
    assert operations.contents == [b"volts"]
