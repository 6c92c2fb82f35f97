"""From openmsistream to kfd, host by host: one goes on where the other stopped, and hosts of a
group lose nothing."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import yaml

from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.integration.oracle import Witness
from tests.integration.records import read_topic
from tests.interop.peer import Peer, put_together
from tests.interop.test_receiving import PEER, digests, write
from tests.support import eventually
from tests.unit.ctl.kfdctl import run

CHUNKS = 5 + 1 + 31 + 2  # of all that is sent before one of two hosts stops


def test_a_receiver_that_goes_on_where_the_old_one_stopped(
    make_host: MakeHost, peer: Peer, tmp_path: Path, topic: str
) -> None:
    """With what was its --consumer_group_id, and by what ``config import`` makes of its file."""
    group = f"{topic}-gold"
    old = write(tmp_path / "old", first=200_000, second=1)
    for path in old:
        peer.upload_file(tmp_path / "old" / os.fsdecode(path))
    with peer.downloads(tmp_path / "out", "--consumer_group_id", group) as program:
        eventually(lambda: put_together(tmp_path / "out") == old, every=0.1)
        program.quit()
    new = write(tmp_path / "new", third=200_000, second=2)
    for path in new:
        peer.upload_file(tmp_path / "new" / os.fsdecode(path))
    route = _imported(peer.config, "--group", group)
    assert route["group"] == group
    assert "group" not in _imported(peer.config)  # what stands in the file is not what it was in
    download = PEER | {"group": route["group"], "start": route.get("start", "earliest")}
    receiver = make_host("receiver", sends=False, download=download)
    receiver.start()
    receiver.receives(*new)
    assert receiver.published() == digests(new)
    assert receiver.incoming()["receiving"] == 0


def _imported(config: Path, *options: str) -> dict[str, str]:
    code, out, err = run(
        "config", "import", config, "--download-dir", "/srv/lab", "--topic", "t", *options
    )
    assert code == 0, err
    return dict(yaml.safe_load(out)["downloads"]["archive"])


def test_hosts_that_share_a_group(
    make_host: MakeHost, peer: Peer, tmp_path: Path, bootstrap: str, topic: str
) -> None:
    """While two read neither publishes, and both say so; the one that is left publishes all that
    came, whole and once. That the other comes back loses nothing, and brings nothing twice."""
    one, two = (
        make_host(name, sends=False, download=PEER, kafka={"session.timeout.ms": "6000"})
        for name in ("one", "two")
    )
    up = tmp_path / "up"
    with Witness(one.down) as of_one, Witness(two.down) as of_two, peer.uploads(up) as program:
        one.start()
        first = write(up, alone=300_000, run__small=1)
        one.receives(*first)
        two.start()
        _share(one, two)
        second = write(up, large=2_000_000, run__other=70_000)
        eventually(lambda: len(read_topic(bootstrap, topic)) >= CHUNKS, every=0.2)
        one.terminate()
        two.receives(*second)
        one.start()
        _share(one, two)
        program.quit()
    versions = {path: {digest} for path, digest in digests(first | second).items()}
    for witness in (of_one, of_two):
        witness.saw_only(versions)
        witness.saw_each_once()
    assert one.published() == digests(first)
    assert two.published() == digests(second)


def _share(*hosts: Host) -> None:
    for host in hosts:
        eventually(partial(_problem, host), every=0.1)


def _problem(host: Host) -> bool:
    """Whether it says that its group has others."""
    return any("group of its own" in one["fix"] for one in host.status()["problems"])
