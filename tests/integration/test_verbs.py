"""What people do to transfers and routes while they are moving, and what they are told."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blake3 import blake3

from tests.integration.conftest import ONE_READER, MakeHost, pair
from tests.integration.host import POWERLESS, Host
from tests.integration.records import transfers_on
from tests.support import eventually

SLOW: dict[str, Any] = {  # so that a file of some MiB is under way for a while
    "upload": {"rate_limit": "1MiB"},
    "chunk_size": "64KiB",
    "queue": {"size": "4MiB"},
}


def done(host: Host, *arguments: str) -> str:
    """What kfdctl says; it must succeed."""
    answer = host.ctl(*arguments)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def tid_of(host: Host, path: str, state: str, direction: str = "upload") -> str:
    """The tid of the newest transfer of a file that is in a state, once there is one."""

    def found() -> list[str]:
        return [
            one["tid"]
            for one in host.transfers(direction)
            if (one["path"], one["state"]) == (path, state)
        ]

    eventually(lambda: bool(found()), 30, every=0.05)
    return found()[0]


def shown(host: Host, tid: str) -> dict[str, Any]:
    """What ``show`` tells of a transfer."""
    return dict(host.call("Show", tid=tid))


# --- show and events -------------------------------------------------------------------------


def test_show_tells_a_files_life(make_host: MakeHost) -> None:
    sender, receiver = pair(make_host)
    receiver.start()
    sender.start()
    content = os.urandom(150_000)
    sender.put("run1.trc", content)
    sender.delivers("run1.trc")
    tid = tid_of(sender, "run1.trc", "delivered")
    details = shown(sender, tid)["details"]
    transfer = shown(sender, tid)["transfer"]
    times = [
        transfer["queued_at"], details["begun_at"], details["in_kafka_at"], transfer["ended_at"],
    ]  # fmt: skip
    assert times == sorted(times)
    assert details["receivers"] == ["lab2"]
    assert details["digest"] == blake3(content).hexdigest()
    assert details["source"] == str(sender.up / "run1.trc")
    there = shown(receiver, tid)
    assert there["transfer"]["state"] == "published"
    assert there["details"]["digest"] == details["digest"]
    assert there["details"]["partition"] == details["partition"]
    assert there["details"]["first_offset"] == details["first_offset"]
    text = done(sender, "show", tid[-8:])
    assert f"digest      {details['digest']}" in text
    assert "receivers   lab2" in text
    missing = sender.ctl("show", "0" * 8)
    assert missing.returncode == 12
    assert "no transfer has the id 00000000" in missing.stderr


def test_show_has_both_halves_of_what_was_sent_and_received_here(make_host: MakeHost) -> None:
    host = make_host(pools=ONE_READER)
    host.start()
    host.put("run1.trc", b"content")
    host.delivers("run1.trc")
    tid = tid_of(host, "run1.trc", "delivered")
    tid_of(host, "run1.trc", "published", "download")
    answer = shown(host, tid)
    assert answer["transfer"]["route"] == "out"
    assert [one["transfer"]["state"] for one in answer["others"]] == ["published"]
    assert answer["others"][0]["details"]["name"] == "run1.trc"
    text = done(host, "show", tid[-8:], "--route", "in")
    assert "published   " in text
    assert "delivered" not in text
    assert done(host, "show", "--route", "in") == text
    missing = host.ctl("show", tid, "--route", "other")
    assert missing.returncode == 12
    assert f"no transfer has the id {tid} in route other" in missing.stderr


@contextmanager
def following(host: Host) -> Iterator[list[dict[str, Any]]]:
    """The events that ``kfdctl events --follow`` tells, as they come."""
    command = host.ctl_command("events", "--follow", "--limit", "0", "--json")
    events: list[dict[str, Any]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = process.stdout
        reader = threading.Thread(target=lambda: events.extend(map(_event, lines)))
        reader.start()
        try:
            numbers = itertools.count()
            while not events:  # until it follows
                host.put(f"probe{next(numbers)}", b"x")
                time.sleep(0.05)
            yield events
        finally:
            process.kill()
            reader.join()


def _event(line: str) -> dict[str, Any]:
    return dict(json.loads(line)["event"])


def states(events: list[dict[str, Any]], path: str, direction: str = "upload") -> list[str]:
    return [
        one["state"] for one in list(events) if (one["path"], one["direction"]) == (path, direction)
    ]


def test_events_tell_each_step_of_every_file_once(make_host: MakeHost) -> None:
    host = make_host(pools=ONE_READER)
    host.start()
    host.put("before.trc", b"x")
    host.delivers("before.trc")
    names = [f"run{number:03}.trc" for number in range(200)]
    with following(host) as events:
        for name in names:
            host.put(name, os.urandom(500))
        host.delivers(*names)
        way = ["queued", "sending", "in_kafka", "delivered"]
        eventually(lambda: all(states(events, name) == way for name in names), 20, every=0.2)
        published = [states(events, name, "download") for name in names]
        assert published == [["published"]] * len(names)
        assert not states(events, "before.trc")
    latest = json.loads(done(host, "events", "--limit", "10000", "--json"))["events"]
    assert all(states(latest, name) == way for name in ["before.trc", *names])
    assert [one["at"] for one in latest] == sorted(one["at"] for one in latest)
    host.terminate()
    host.start()  # they are in the ledger
    again = json.loads(done(host, "events", "--limit", "10000", "--json"))["events"]
    assert again == latest


# --- cancel and retry --------------------------------------------------------------------------


def test_what_waits_is_cancelled_and_retried(make_host: MakeHost) -> None:
    host = make_host(pools=ONE_READER)
    host.start()
    done(host, "pause", "out")
    host.put("run1.trc", os.urandom(1000))
    tid = tid_of(host, "run1.trc", "queued")
    assert done(host, "cancel", tid[-8:]) == f"run1.trc  cancelled  id {tid[-8:]}\n"
    assert "cancelled by " in shown(host, tid)["transfer"]["reason"]
    done(host, "resume", "out")
    done(host, "rescan", "out")
    host.put("run2.trc", os.urandom(1000))
    host.delivers("run2.trc")  # and the scan didn't send what was cancelled
    assert host.states("upload")["run1.trc", "cancelled"] == 1
    assert (
        sum(count for (path, _), count in host.states("upload").items() if path == "run1.trc") == 1
    )
    answer = json.loads(done(host, "retry", tid[-8:], "--json"))
    successor = answer["transfers"][0]["successor"]
    host.delivers("run1.trc")
    assert shown(host, successor)["details"]["predecessor"] == tid
    host.receives_all()
    host.terminate()
    host.start()
    host.put("run3.trc", b"x")
    host.delivers("run3.trc")
    assert host.states("upload")["run1.trc", "delivered"] == 1  # no scan has sent it besides


def test_what_is_being_sent_is_cancelled_and_receivers_drop_it(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    host = make_host(pools=ONE_READER, **SLOW)
    host.start()
    host.put("large.trc", os.urandom(20 << 20))
    tid = tid_of(host, "large.trc", "receiving", "download")
    assert "cancelled" in done(host, "cancel", tid)
    host.clean()  # the abort has reached the receiver
    assert shown(host, tid)["transfer"]["state"] == "cancelled"
    host.put("small.trc", b"x")
    host.delivers("small.trc")
    assert set(host.published()) == {b"small.trc"}
    sent = transfers_on(bootstrap, topic)[bytes.fromhex(tid)]
    assert not sent.end, "its last record must never come"
    assert sent.aborted
    host.kill9()
    host.start()
    host.put("after.trc", b"x")
    host.delivers("after.trc")
    assert shown(host, tid)["transfer"]["state"] == "cancelled"
    status = host.status()["uploads"][0]
    assert (status["cancelled"], status["queued"], status["sending"]) == (1, 0, 0)


def test_what_was_cancelled_while_it_was_sent_is_sent_again(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    host = make_host(pools=ONE_READER, **SLOW)
    host.start()
    host.put("large.trc", os.urandom(5 << 20))
    tid = tid_of(host, "large.trc", "receiving", "download")
    assert "cancelled" in done(host, "cancel", tid)
    again = json.loads(done(host, "retry", tid, "--json"))["transfers"][0]["successor"]
    host.delivers("large.trc")
    host.receives_all()
    host.clean()
    assert shown(host, again)["details"]["predecessor"] == tid
    on_topic = transfers_on(bootstrap, topic)
    assert on_topic[bytes.fromhex(tid)].aborted
    assert not on_topic[bytes.fromhex(tid)].end
    assert on_topic[bytes.fromhex(again)].end
    host.counts_published(1)


def test_what_is_in_kafka_is_not_cancelled(make_host: MakeHost) -> None:
    host = make_host(receives=False)
    host.start()
    host.put("run1.trc", b"x")
    tid = tid_of(host, "run1.trc", "in_kafka")
    refused = host.ctl("cancel", tid)
    assert refused.returncode == 1
    assert "run1.trc is in-kafka: it can't be cancelled any more" in refused.stderr
    assert shown(host, tid)["transfer"]["state"] == "in_kafka"
    retried = host.ctl("retry", tid)
    assert retried.returncode == 1
    assert "isn't sent again: it is in-kafka" in retried.stderr


def test_all_that_failed_is_retried(make_host: MakeHost) -> None:
    host = make_host(pools=ONE_READER)
    host.prefix = POWERLESS
    host.start()
    done(host, "pause", "out")
    names = [f"locked{number}.trc" for number in range(300)]  # more than a batch
    for name in names:
        host.put(name, os.urandom(300))
    eventually(lambda: host.outgoing()["queued"] == len(names), 30, every=0.1)
    for name in names:
        (host.up / name).chmod(0)
    done(host, "resume")
    eventually(lambda: host.outgoing()["failed"] == len(names), 60, every=0.2)
    (host.up / names[0]).unlink()
    for name in names[1:]:
        (host.up / name).chmod(0o644)
    host.put(names[1], b"changed")
    answer = host.ctl("retry", "--failed", "--route", "out")
    assert answer.returncode == 1
    assert f"{names[0]} (" in answer.stderr
    assert "the file is no longer there\n  fix: put it back, or kfdctl send it" in answer.stderr
    assert f"{names[1]} (" in answer.stderr
    assert "  fix: nothing is to be done: kfd sends by itself what is" in answer.stderr
    gone = tid_of(host, names[0], "failed")
    assert "cancelled" in done(host, "cancel", gone)
    assert shown(host, gone)["transfer"]["reason"].startswith("put aside by root; it had failed: ")
    assert answer.stdout.endswith("298 transfers queued again.\n")
    host.receives_all()
    host.delivers(*names[1:])
    done(host, "rescan")
    host.put("last.trc", b"x")
    host.delivers("last.trc")
    counts = host.outgoing()
    assert counts["failed"] == 1  # one was put aside
    assert counts["delivered"] == len(names)  # none twice: 298, the changed one and the last


# --- pause and resume ---------------------------------------------------------------------------


def test_a_paused_route_sends_nothing_and_queues_all(make_host: MakeHost) -> None:
    host = make_host(pools=ONE_READER)
    host.start()
    host.put("before.trc", b"x")
    host.delivers("before.trc")
    assert done(host, "pause", "out", "--wait") == "out: paused\n"
    names = [f"run{number}.trc" for number in range(50)]
    for name in names:
        host.put(name, os.urandom(1000))
    eventually(lambda: host.outgoing()["queued"] == len(names), 30, every=0.1)
    text = done(host, "status")
    assert "out: paused since " in text
    assert "DEGRADED" not in text
    assert host.ctl("status", "--check").returncode == 0
    host.terminate()
    host.start()  # it stays paused
    host.put("later.trc", b"x")
    eventually(lambda: host.outgoing()["queued"] == len(names) + 1, 30, every=0.1)
    assert host.outgoing()["paused_since"] is not None
    assert set(host.published()) == {b"before.trc"}
    assert done(host, "resume") == "out: goes on\n"
    host.receives_all()
    assert "paused" not in done(host, "status")


def test_a_file_goes_on_where_it_was_paused(make_host: MakeHost) -> None:
    host = make_host(pools=ONE_READER, **SLOW)
    host.start()
    host.put("large.trc", os.urandom(6 << 20))
    tid = tid_of(host, "large.trc", "receiving", "download")
    done(host, "pause", "out", "--wait")
    before = eventually(lambda: shown(host, tid)["transfer"]["done"])  # noted once a second
    assert before < 6 << 20
    host.kill9()
    host.start()
    assert shown(host, tid)["transfer"]["state"] == "sending"
    done(host, "resume", "out")
    host.delivers("large.trc")
    assert shown(host, tid)["transfer"]["state"] == "delivered"  # under the same id
    host.receives_all()


def test_a_paused_download_keeps_its_place(make_host: MakeHost) -> None:
    sender, receiver = pair(make_host)
    receiver.start()
    sender.start()
    sender.put("before.trc", os.urandom(1000))
    sender.delivers("before.trc")
    assert done(receiver, "pause", "in", "--wait") == "in: paused\n"
    records = receiver.incoming()["records"]
    for number in range(50):
        sender.put(f"run{number}.trc", os.urandom(100_000))
    sender.sent(51)
    assert receiver.incoming()["records"] == records
    assert set(receiver.published()) == {b"before.trc"}
    assert receiver.incoming()["paused_since"] is not None
    done(receiver, "resume", "in")
    receiver.receives_all(sender)
    assert receiver.incoming()["bad"] == {}


def test_quit_leaves_what_is_paused(make_host: MakeHost) -> None:
    host = make_host(receives=False)
    host.start()
    done(host, "pause")
    host.put("run1.trc", b"x")
    tid_of(host, "run1.trc", "queued")
    said = done(host, "quit", "--timeout", "30")
    assert "1 transfer (1 B) left to the next start" in said
    assert "kfd stopped after" in said
    host.start()
    assert host.outgoing()["queued"] == 1


def test_rescan_finds_what_nothing_told_of(make_host: MakeHost) -> None:
    host = make_host(receives=False, upload={"watch": "poll", "poll_every": "1h"})
    host.start()
    eventually(lambda: "polling" in host.log(), 10)
    host.put("first.trc", b"x", old=True)
    assert done(host, "rescan", "out") == "out: is scanned\n"
    tid_of(host, "first.trc", "in_kafka")
    refused = host.ctl("rescan", "nowhere")
    assert refused.returncode == 2
    assert "there is no route nowhere" in refused.stderr


# --- top -----------------------------------------------------------------------------------------


def test_top_shows_what_moves(make_host: MakeHost) -> None:
    host = make_host(pools=ONE_READER, **SLOW)
    host.start()
    host.put("large.trc", os.urandom(8 << 20))
    tid_of(host, "large.trc", "receiving", "download")
    text = done(host, "top")
    assert "large.trc" in text
    assert "sending" in text
    assert "receiving" in text
    document = json.loads(done(host, "top", "--json"))
    assert {one["path"] for one in document["transfers"]} == {"large.trc"}
