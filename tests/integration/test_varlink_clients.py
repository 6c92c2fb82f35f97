"""Clients that know nothing of kfd but its ``.varlink`` file, against a real daemon."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import varlink

from kfd.control import METHODS
from tests.integration.host import Host

Ask = Callable[[Any, str, Path], Any]
"""Calls a method through a connection; gets the id of a transfer, and a file."""

CALLS: dict[str, Ask] = {
    "Send": lambda kfd, _, file: kfd.Send(files=[{"source": str(file)}], dry_run=True)["files"],
    "Wait": lambda kfd, tid, _: list(kfd.Wait([tid], "in_kafka", _more=True))[-1]["transfers"],
    "List": lambda kfd, *_: kfd.List(limit=5)["transfers"],
    "Show": lambda kfd, tid, _: kfd.Show(tid)["transfer"],
    "Events": lambda kfd, *_: kfd.Events(limit=5)["events"],
    "Cancel": lambda kfd, tid, _: refused(lambda: kfd.Cancel(tid)),
    "Retry": lambda kfd, tid, _: kfd.Retry([tid])["refused"],
    "Pause": lambda kfd, *_: list(kfd.Pause("out", _more=True)),
    "Resume": lambda kfd, *_: kfd.Resume("out"),
    "Rescan": lambda kfd, *_: kfd.Rescan("out"),
    "ListCatalogues": lambda kfd, *_: kfd.ListCatalogues(limit=5),
    "AddToCatalogue": lambda kfd, _, file: refused(
        lambda: kfd.AddToCatalogue(files=[{"source": str(file)}])
    ),
    "WaitForCatalogue": lambda kfd, tid, _: refused(
        lambda: list(kfd.WaitForCatalogue([tid], _more=True))
    ),
    "RetryCatalogue": lambda kfd, *_: refused(lambda: kfd.RetryCatalogue(all=True)),
    "ListQuarantine": lambda kfd, *_: kfd.ListQuarantine(limit=5),
    "ShowQuarantined": lambda kfd, tid, _: refused(lambda: kfd.ShowQuarantined(tid)),
    "Release": lambda kfd, tid, _: refused(lambda: kfd.Release(tid)),
    "Purge": lambda kfd, *_: kfd.Purge(all=True),
    "GetStatus": lambda kfd, *_: kfd.GetStatus()["status"],
    "Metrics": lambda kfd, *_: kfd.Metrics(),
    "Backup": lambda kfd, *_: refused(kfd.Backup),  # this client passes no descriptors
    "Reload": lambda kfd, *_: kfd.Reload(),
    "Doctor": lambda kfd, *_: list(kfd.Doctor(_more=True)),
    "Acls": lambda kfd, *_: kfd.Acls(),
    "Quit": lambda kfd, *_: list(kfd.Quit(_more=True))[-1]["stopping"],
}


def refused(call: Callable[[], object]) -> str:
    """The name of the error that it must lead to."""
    with pytest.raises(varlink.VarlinkError) as caught:
        call()
    return str(caught.value.error())


@contextmanager
def independent(host: Host) -> Iterator[Any]:
    with (
        varlink.Client(address=f"unix:{host.socket}") as client,
        closing(client.open("io.kfd.Control")) as connection,
    ):
        yield connection


@pytest.fixture
def tid(host: Host) -> str:
    """A transfer that is in Kafka."""
    host.put("run.trc", b"volts")
    host.delivers("run.trc")
    (sent,) = host.transfers("upload")
    return str(sent["tid"])


def test_no_method_is_left_out() -> None:
    assert CALLS.keys() == METHODS.keys()


def test_independent_client_calls_every_method(host: Host, tid: str, tmp_path: Path) -> None:
    """Quit comes last."""
    file = tmp_path / "run.trc"
    file.write_bytes(b"volts")
    for method in sorted(CALLS, key="Quit".__eq__):
        with independent(host) as kfd:
            assert CALLS[method](kfd, tid, file), method
    assert host.wait() == 0


def test_varlinkctl(host: Host) -> None:
    """systemd's own client, of version 255 and later."""
    if shutil.which("varlinkctl") is None:
        pytest.skip("there is no varlinkctl here: systemd is older than 255")

    def ask(verb: str, *arguments: str) -> str:
        command = ["varlinkctl", "--json=short", verb, f"unix:{host.socket}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert json.loads(ask("info"))["product"] == "kfd"
    assert "method Send" in ask("introspect", "io.kfd.Control")
    answer = json.loads(ask("call", "io.kfd.Control.GetStatus", "{}"))
    assert answer["status"]["state"] == "running"
