"""Stopping under load: by ``kfdctl quit`` and by signals, orderly, forced and hurried."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.integration.oracle import digest
from tests.integration.records import complete, transfers_on
from tests.support import eventually

STOP_SECONDS = 35  # SIGTERM to the end, whatever is in flight


def slow_host(make_host: MakeHost, files: int = 6) -> Host:
    """A running host that has seconds of work before it: 2 MiB files at 4 MiB a second."""
    host = make_host(receives=False, upload={"rate_limit": "4MiB"}, chunk_size="64KiB")
    for number in range(files):
        host.put(f"{number}", bytes([number]) * (2 << 20), old=True)
    host.start()
    eventually(lambda: host.outgoing()["sending"] > 0, every=0.1)
    return host


def on_the_topic(bootstrap: str, topic: str) -> dict[bytes, set[str]]:
    """The contents that are whole on the topic, by path; twice is an error."""
    found: dict[bytes, set[str]] = {}
    for one in complete(transfers_on(bootstrap, topic).values()):
        assert one.begin["path"] not in found
        found[one.begin["path"]] = {digest(one.content)}
    return found


def test_quit_drains_the_queue(make_host: MakeHost, bootstrap: str, topic: str) -> None:
    host = slow_host(make_host)
    done = host.ctl("quit")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("No new files taken. Finishing ")
    assert "kfd stopped after " in done.stdout
    assert host.wait() == 0
    assert on_the_topic(bootstrap, topic) == host.versions


def test_quit_takes_no_new_files(make_host: MakeHost, bootstrap: str, topic: str) -> None:
    host = slow_host(make_host)
    quitting = subprocess.Popen(host.ctl_command("quit"), stdout=subprocess.DEVNULL)
    eventually(lambda: host.status()["state"] == "draining")
    late = host.up.parent / "late"
    late.write_bytes(b"too late")
    refused = host.ctl("send", late)
    host.put("late too", b"too late as well")
    assert refused.returncode == 1
    assert "kfd is finishing its work and takes no new files" in refused.stderr
    assert quitting.wait(60) == 0
    assert host.wait() == 0
    sent = on_the_topic(bootstrap, topic)
    assert b"late too" not in sent
    host.start()
    host.sent(len(host.versions))
    assert on_the_topic(bootstrap, topic) == host.versions


def test_quit_with_a_timeout_leaves_the_rest_to_the_next_start(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    host = slow_host(make_host, files=20)
    done = host.ctl("quit", "--timeout", "1s")
    assert done.returncode == 0, done.stderr
    assert "left to the next start" in done.stdout
    assert host.wait(STOP_SECONDS) == 0
    assert len(on_the_topic(bootstrap, topic)) < 20


def test_quit_now_leaves_the_rest_to_the_next_start(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    host = slow_host(make_host)
    done = host.ctl("quit", "--now", "--json")
    assert done.returncode == 0, done.stderr
    assert host.wait(STOP_SECONDS) == 0
    assert len(on_the_topic(bootstrap, topic)) < len(host.versions)
    host.start()
    host.sent(len(host.versions))
    assert on_the_topic(bootstrap, topic) == host.versions


def test_sigterm_under_load_ends_in_time_and_resumes(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    host = slow_host(make_host)
    assert host.terminate(STOP_SECONDS) == 0
    left = host.versions.keys() - on_the_topic(bootstrap, topic).keys()
    assert left
    host.start()
    host.sent(len(host.versions))
    assert on_the_topic(bootstrap, topic) == host.versions
    assert set(host.states("upload").values()) == {1}


def test_second_signal_forces_and_loses_nothing(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    host = slow_host(make_host)
    assert host.process is not None
    host.process.send_signal(signal.SIGTERM)
    eventually(lambda: "stopping" in host.log())
    host.process.send_signal(signal.SIGTERM)
    assert host.wait(15) in (0, 130)  # 0: it had just ended by itself
    host.start()
    host.sent(len(host.versions))
    assert on_the_topic(bootstrap, topic) == host.versions


def test_sigint_is_an_orderly_end_too(host: Host) -> None:
    host.put("file", b"content")
    host.receives("file")
    assert host.process is not None
    host.process.send_signal(signal.SIGINT)
    assert host.wait(STOP_SECONDS) == 0
    assert not host.socket.exists()


def test_receiver_stopped_under_load_publishes_once(make_host: MakeHost) -> None:
    sender = make_host("sender", receives=False, chunk_size="64KiB")
    receiver = make_host("receiver", sends=False)
    sender.start()
    for round_ in range(3):
        receiver.start()
        for number in range(100):
            sender.put(f"{round_}/{number}", os.urandom(number * 3000))
        eventually(receiver.published)
        assert receiver.terminate(STOP_SECONDS) == 0
    receiver.start()
    receiver.receives_all(sender)
    receiver.clean()  # what was under way at a stop went on, and left nothing
    assert set(receiver.states("download").values()) == {1}


def test_nothing_of_a_stopped_daemon_is_left(host: Host) -> None:
    host.put("file", b"content")
    host.receives("file")
    assert host.terminate() == 0
    assert not host.socket.exists()
    done = host.ctl("status")
    assert done.returncode == 3
    assert done.stderr.startswith(f"kfdctl: kfd is not running (no {host.socket})")


def test_stop_while_no_broker_answers(make_host: MakeHost) -> None:
    """What can't be sent now is no reason to hang."""
    host = make_host(kafka={"bootstrap.servers": "127.0.0.1:1"})
    host.put("waiting", b"content", old=True)
    host.start()
    eventually(lambda: host.outgoing()["queued"] == 1)
    started = time.monotonic()
    assert host.terminate(STOP_SECONDS) == 0
    print(f"ended after {time.monotonic() - started:.1f} s")
    host.start()
    done = host.ctl("quit", "--timeout", "1s")
    assert done.returncode == 0, done.stderr
    assert host.wait(STOP_SECONDS) == 0


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_quit_says_when_kfd_ends_before_it_has_finished(
    make_host: MakeHost, end: signal.Signals
) -> None:
    host = slow_host(make_host)
    with subprocess.Popen(
        host.ctl_command("quit"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as quitting:
        assert quitting.stdout is not None
        assert os.read(quitting.stdout.fileno(), 1000).startswith(b"No new files taken. Finishing ")
        assert host.process is not None
        host.process.send_signal(end)
        out, err = quitting.communicate(timeout=60)
    assert quitting.returncode == 1
    assert out.endswith(" left to the next start\n")
    assert "kfd ended before it had finished\n  fix: journalctl -u kfd" in err
    host.wait(STOP_SECONDS)


def test_all_who_quit_are_told_that_it_has_stopped(make_host: MakeHost) -> None:
    host = slow_host(make_host)
    quitting = [
        subprocess.Popen(host.ctl_command("quit"), stdout=subprocess.DEVNULL) for _ in range(3)
    ]
    assert [one.wait(60) for one in quitting] == [0, 0, 0]
    assert host.wait() == 0
