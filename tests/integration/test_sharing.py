"""Several daemons: in one group, on one directory, and one that talks to itself."""

from __future__ import annotations

import os

from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.integration.oracle import Tree
from tests.support import eventually


def merged(*hosts: Host) -> dict[bytes, str]:
    """What was published on all of them; fails for what is on more than one."""
    found: dict[bytes, str] = {}
    for host in hosts:
        published = host.published()
        assert not found.keys() & published.keys()
        found |= published
    return found


def partitions_of(host: Host) -> int:
    """How many partitions its threads last said they read."""
    last: dict[str, int] = {}
    for line in host.log().splitlines():
        if ": reads partitions " in line:
            name, _, listed = line.partition(": reads partitions ")
            last[name.split()[-1]] = len(listed.strip("[]").split())
    return sum(last.values())


def test_two_hosts_of_a_group_share_the_files(make_host: MakeHost) -> None:
    """Each file is on one of them, also while the second one joins."""
    sender = make_host("sender", receives=False, chunk_size="64KiB")
    one, two = (make_host(name, sends=False) for name in ("one", "two"))
    sender.start()
    one.start()
    for number in range(100):
        sender.put(f"alone/{number}", os.urandom(number * 3000))
    eventually(one.published)
    two.start()
    eventually(lambda: partitions_of(two) > 0)
    for number in range(100):
        sender.put(f"together/{number}", os.urandom(number * 1000))
    wanted = Tree(sender.up).digests()
    eventually(lambda: len(one.published()) + len(two.published()) >= len(wanted), 60)
    assert merged(one, two) == wanted
    assert one.published()
    assert two.published()
    assert one.incoming()["quarantined"] == two.incoming()["quarantined"] == 0


def test_daemon_receives_what_it_sent_itself(host: Host) -> None:
    host.put("to myself", b"content")
    host.receives("to myself")
    host.delivers("to myself")
    states = host.states("upload") + host.states("download")
    assert states == {("to myself", "delivered"): 1, ("to myself", "published"): 1}


def test_hosts_of_different_groups_each_get_all(make_host: MakeHost, topic: str) -> None:
    sender = make_host("sender", receives=False)
    receivers = [
        make_host(name, sends=False, download={"group": f"{topic}-{name}"}) for name in ("a", "b")
    ]
    for one in (sender, *receivers):
        one.start()
    for number in range(50):
        sender.put(f"{number}", b"%d" % number)
    for receiver in receivers:
        receiver.receives_all(sender)


def test_second_daemon_on_a_directory_is_refused(make_host: MakeHost) -> None:
    first = make_host("first", sends=False, origin="first")
    first.start()
    second = make_host("second", sends=False, download={"directory": str(first.down)})
    second.spawn()
    assert second.wait() == 78
    said = second.log()
    assert f"{first.down} is in use by another kfd (first, ledger " in said
    assert "fix: give each daemon a directory of its own, or stop the other one" in said
    assert "Traceback" not in said
    assert first.status()["state"] == "running"


def test_second_daemon_on_a_state_directory_is_refused(make_host: MakeHost) -> None:
    first = make_host("first")
    first.start()
    second = make_host("second")
    second.state = first.state
    second.spawn()
    assert second.wait() == 78
    assert "Traceback" not in second.log()
    first.put("still works", b"content")
    first.receives("still works")


def test_second_daemon_on_a_socket_is_refused(make_host: MakeHost) -> None:
    first = make_host("first")
    first.start()
    second = make_host("second")
    second.socket = first.socket
    second.spawn()
    assert second.wait() in (77, 78)
    assert "Traceback" not in second.log()
    first.put("still works", b"content")
    first.receives("still works")
    assert first.process is not None
    assert first.status()["pid"] == first.process.pid
