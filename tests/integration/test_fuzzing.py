"""Whatever comes to the control socket, the daemon answers or hangs up, and works on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfd.control import ERRORS, METHODS
from kfd.varlink import SERVICE
from tests.integration.conftest import ONE_READER
from tests.integration.host import Host
from tests.integration.openfiles import open_names
from tests.support import CHECKOUT, eventually

SHOTS = int(os.environ.get("KFD_FUZZ_FRAMES", "10000"))
SEED = int(os.environ.get("KFD_FUZZ_SEED", "1"))
LEAVE = 64 << 20  # bytes of memory that may be in use more than before

UNPACED = """\
import sys
from kfd.daemon.server import pacing
from kfd.daemon.__main__ import main
pacing.SHARE = 1e9
sys.argv = sys.argv[3:]
main()
"""
"""Becomes the daemon, and doesn't slow those down who ask without end."""

WORKERS: tuple[tuple[str, ...], ...] = ((), (), (), (), ("owner",), ("owner",))
KNOWN = {f"io.kfd.Control.{name}" for name in ERRORS} | {
    f"{SERVICE}.{name}" for name in ("MethodNotFound", "InterfaceNotFound", "InvalidParameter")
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_fuzzed_frames_crash_nothing(tmp_path: Path) -> None:
    """No broker answers: what is sent meanwhile stays in the queue."""
    file = tmp_path / "run.trc"
    file.write_bytes(b"volts")
    settings = {"control_group": "root", "spool_max": "1GiB", "pools": ONE_READER}
    with Host(tmp_path / "host", "127.0.0.1:1", "fuzzed", **settings) as host:
        add_closed_route(host)
        host.prefix = [sys.executable, "-c", UNPACED]
        host.start()
        host.socket.parent.chmod(0o711)
        fuzz(host, file)
        assert host.terminate() == 0


def add_closed_route(host: Host) -> None:
    config = yaml.safe_load(host.config.read_text())
    closed = host.up.with_name("closed")
    closed.mkdir()
    config["uploads"]["closed"] = {"directory": str(closed), "topic": "closed", "send": False}
    host.config.write_text(yaml.safe_dump(config))


def fuzz(host: Host, file: Path) -> None:
    """All shots, and a look at what became of the daemon."""
    before = host.rss()
    accounts = fire(host, file)
    reached = sum((Counter(one["reached"]) for one in accounts), Counter())
    files = sum((Counter(one["files"]) for one in accounts), Counter())
    answers = reached.total()
    print(
        f"{SHOTS:,} shots in {max(one['seconds'] for one in accounts):.0f} s, {answers:,} answers,"
        f" {sum(one['hang_ups'] for one in accounts):,} connections ended,"
        f" {sum(one['silent'] for one in accounts):,} without an answer,"
        f" memory {(host.rss() - before) / 1e6:+.1f} MB"
    )
    for what, count in (*sorted(reached.items()), *files.most_common(20)):
        print(f"  {count:>9,} {what}")
    assert host.running
    assert "control: a request" not in host.log()
    assert "this is a bug" not in host.log()
    assert {what.split()[1] for what in reached} - {"answered"} <= KNOWN
    assert performed(reached) >= METHODS.keys()
    assert files["taken"]
    passed = {name for one in accounts for name in one["passed"]}
    eventually(lambda: passed.isdisjoint(open_names(host)))
    assert host.rss() < before + LEAVE
    sent = host.ctl("send", "--route", "out", "--name", "after.trc", "--until", "queued", file)
    assert sent.returncode == 0, sent.stderr


def fire(host: Host, file: Path) -> list[dict[str, Any]]:
    """Several at once, each with a share; what each has to tell."""
    shares = [len(range(at, SHOTS, len(WORKERS))) for at in range(len(WORKERS))]
    command = [sys.executable, "-m", "tests.integration.fuzzer", str(host.socket), str(file)]
    workers = [
        subprocess.Popen(
            [*command, str(share), str(SEED * len(WORKERS) + at), *WORKERS[at]],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for at, share in enumerate(shares)
    ]
    said = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(WORKERS)
    return [json.loads(one) for one in said]


def performed(reached: Counter[str]) -> set[str]:
    """The methods that were right requests now and then, if only to be told no."""
    outcomes = ("answered", "io.kfd.Control.NotPermitted", "io.kfd.Control.NoSuchTransfer")
    return {what.split()[0] for what in reached if what.split()[1] in outcomes}
