"""kill -9 and restarts of either side at random moments: nothing twice, nothing never."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.integration.oracle import Witness, digest
from tests.integration.records import complete, transfers_on
from tests.support import eventually

CHUNKED = {"chunk_size": "64KiB"}
RECOVERY_SECONDS = 15  # in which all is published after a restart


def load(host: Host, rng: random.Random, prefix: str, small: int, large: int) -> None:
    """Put files of one chunk and of many where they are sent from."""
    for number in range(small):
        host.put(f"{prefix}/{number % 9}/small {number}", rng.randbytes(rng.randrange(20_000)))
    for number in range(large):
        host.put(f"{prefix}/large {number}", rng.randbytes(rng.randrange(2 << 20, 8 << 20)))


def kill_at_random(host: Host, rng: random.Random) -> None:
    """Let it work for some moments, as random as they come, and kill it."""
    time.sleep(rng.uniform(0.0, 1.0))  # not a wait for anything: the kill's moment
    host.kill9()


def each_version_once_on_the_topic(host: Host, bootstrap: str, topic: str) -> None:
    """Fail if a content is whole on the topic twice under one path, or never."""
    whole = complete(transfers_on(bootstrap, topic).values())
    sent = Counter((one.begin["path"], digest(one.content)) for one in whole)
    put = {(path, version) for path, seen in host.versions.items() for version in seen}
    assert set(sent) == put
    assert set(sent.values()) == {1}
    assert host.arrived() == len(put)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_sender_sends_each_file_once(
    make_host: MakeHost, bootstrap: str, topic: str, seed: int
) -> None:
    rng = random.Random(seed)
    host = make_host(receives=False, **CHUNKED)
    load(host, rng, "before", 100, 3)
    for round_ in range(4):
        host.start()
        load(host, rng, f"round {round_}", 30, 1)
        kill_at_random(host, rng)
    host.start()
    host.sent(len(host.versions))
    each_version_once_on_the_topic(host, bootstrap, topic)
    assert set(host.states("upload").values()) == {1}


def test_orderly_restarts_send_each_file_once(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    rng = random.Random(3)
    host = make_host(receives=False, **CHUNKED)
    for round_ in range(3):
        host.start()
        load(host, rng, f"round {round_}", 40, 2)
        time.sleep(rng.uniform(0.0, 0.3))  # the moment of the stop
        assert host.terminate(35) == 0
    host.start()
    host.sent(len(host.versions))
    each_version_once_on_the_topic(host, bootstrap, topic)


def test_nothing_is_sent_again_after_a_restart(make_host: MakeHost) -> None:
    host = make_host(receives=False)
    for number in range(20):
        host.put(f"{number}", b"%d" % number, old=True)
    host.start()
    host.sent(20)
    host.kill9()
    host.start()
    host.put("new", b"new")
    host.sent(21)
    assert host.terminate() == 0
    host.start()
    host.put("newer", b"newer")
    host.sent(22)


def test_file_changed_while_the_sender_was_down_is_sent(make_host: MakeHost) -> None:
    host = make_host()
    host.put("changed", b"version 1", old=True)
    host.put("same size, same mtime", b"version 1", old=True)
    host.put("untouched", b"version 1", old=True)
    host.start()
    host.receives_all()
    host.kill9()
    host.put("changed", b"version 2 is longer")
    path = host.up / "same size, same mtime"
    path.rename(host.up.parent / "aside")  # so that the new one has another inode
    host.put("same size, same mtime", b"version 2", old=True)
    host.start()
    host.receives_all()
    assert Counter(one["path"] for one in host.transfers("upload")) == {
        "changed": 2,
        "same size, same mtime": 2,
        "untouched": 1,
    }


def test_file_that_changed_after_it_was_begun_is_sent_as_it_is_now(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    """Killed in the middle of a large file, which then changes: no mixture of both comes out."""
    host = make_host(upload={"rate_limit": "4MiB"}, **CHUNKED)
    host.put("large", random.Random(4).randbytes(24 << 20), old=True)
    host.start()
    eventually(lambda: any(one["done"] > 1 << 20 for one in host.transfers("upload")), every=0.1)
    with Witness(host.down) as witness:
        host.kill9()
        host.put("large", random.Random(5).randbytes(3 << 20))
        host.start()
        host.receives_all()
    witness.saw_only(host.versions)
    host.delivers("large")
    assert sorted(host.states("upload")) == [("large", "cancelled"), ("large", "delivered")]
    (first, *_) = [one for one in transfers_on(bootstrap, topic).values() if not one.end]
    assert first.aborted


@pytest.mark.parametrize("seed", [6, 7])
def test_killed_receiver_publishes_each_file_once(make_host: MakeHost, seed: int) -> None:
    rng = random.Random(seed)
    sender = make_host("sender", receives=False, **CHUNKED)
    receiver = make_host("receiver", sends=False)
    sender.start()
    with Witness(receiver.down) as witness:
        for round_ in range(5):
            receiver.start()
            load(sender, rng, f"round {round_}", 60, 1)
            kill_at_random(receiver, rng)
        sender.sent(len(sender.versions))
        receiver.start()
        receiver.receives_all(sender, deadline=RECOVERY_SECONDS)
        receiver.clean()
    witness.saw_only(sender.versions)
    witness.saw_each_once()
    receiver.counts_published(len(sender.versions))
    assert set(receiver.states("download").values()) == {1}
    assert receiver.incoming()["bad"] == {}


def test_killed_host_that_sends_to_itself(make_host: MakeHost) -> None:
    """Both sides die at once, and new versions of the same files come meanwhile."""
    rng = random.Random(8)
    host = make_host(**CHUNKED)
    with Witness(host.down) as witness:
        for _ in range(4):
            host.start()
            load(host, rng, "same names", 40, 1)
            kill_at_random(host, rng)
        host.start()
        host.receives_all()
    witness.saw_only(host.versions)
    host.clean()
    assert not [path for path in host.published() if b"conflict" in path]
