"""What kfd sends in openmsistream's format, openmsistream's own program puts together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from kfd.openmsistream import decode
from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.integration.records import read_topic
from tests.interop.peer import Peer, put_together
from tests.support import eventually

CHUNK = 64 << 10
MANY = os.urandom(20 * CHUNK + 5)
FILES = {
    b"one kB.bin": os.urandom(1024),
    b"empty": b"",
    b"one chunk": os.urandom(CHUNK),
    b"one more": os.urandom(CHUNK + 1),
    b"many": MANY,
    b"sub/many": MANY[::-1],
    b"sub/deeper er/one": b"1",
    "\u00fcml\u00e4ut/\u6e2c\u5b9a \U0001f52c.trc".encode(): b"u",
    b"semi;colon": b"s",
    b"back\\slash": b"b",
    b"quo'te\".csv": b"q",
    b"-dash": b"-",
    b"new\nline\tand tab": b"n",
    b"%s{x}[1]*?": b"f",
    b"catalog.csv": b"c",
    b"blog/x.tif": b"x",
    b"n" * 255: b"l",
}


@pytest.fixture
def sender(make_host: MakeHost) -> Host:
    return make_host(
        receives=False, upload={"format": "openmsistream", "exclude": []}, chunk_size="64KiB"
    )


def test_openmsistream_puts_together_what_kfd_sends(
    sender: Host, peer: Peer, tmp_path: Path
) -> None:
    for path, content in FILES.items():
        sender.put(path, content)
    sender.start()
    with peer.downloads(tmp_path / "out") as program:
        eventually(lambda: put_together(tmp_path / "out") == FILES, every=0.1)
        sender.put("later/many", MANY)
        wanted = FILES | {b"later/many": MANY}
        eventually(lambda: put_together(tmp_path / "out") == wanted, every=0.1)
        sender.sent(len(wanted))
        program.quit()
    assert "not matched" not in program.log()
    assert {state for _, state in sender.states("upload")} == {"in_kafka"}


def test_a_killed_sender_goes_on_and_the_file_arrives_whole(
    make_host: MakeHost, peer: Peer, tmp_path: Path
) -> None:
    upload = {"format": "openmsistream", "rate_limit": "4MiB"}
    sender = make_host(receives=False, upload=upload, chunk_size="64KiB")
    content = os.urandom(160 * CHUNK)  # three turns, a second from one another
    sender.put("run.trc", content)
    with peer.downloads(tmp_path / "out") as program:
        for part in (0.2, 0.6):
            sender.start()
            eventually(lambda part=part: _done(sender) > part * len(content), every=0.01)
            sender.kill9()
        sender.start()
        eventually(lambda: put_together(tmp_path / "out") == {b"run.trc": content}, every=0.1)
        sender.sent(1)
        program.quit()
    assert "not matched" not in program.log()


def test_what_changes_while_it_is_sent_is_never_sent_whole(
    make_host: MakeHost, bootstrap: str, topic: str, peer: Peer, tmp_path: Path
) -> None:
    upload = {"format": "openmsistream", "rate_limit": "4MiB"}
    sender = make_host(receives=False, upload=upload, chunk_size="64KiB")
    old, new = os.urandom(160 * CHUNK), os.urandom(170 * CHUNK)
    sender.start()
    sender.put("run.trc", old)
    eventually(lambda: _done(sender) > CHUNK, every=0.01)
    sender.put("run.trc", new)
    sender.sent(1)
    chunks = [decode(record.value()) for record in read_topic(bootstrap, topic)]
    assert {chunk.total for chunk in chunks} == {160, 170}
    assert (160, 160) not in {(chunk.index, chunk.total) for chunk in chunks}
    sent = [chunk for chunk in chunks if chunk.total == 170]
    assert [chunk.index for chunk in sent[:3]] == [1, 1, 2]  # its receivers lose the first of them
    assert b"".join(chunk.data for chunk in sent[1:]) == new
    with peer.downloads(tmp_path / "out") as program:
        eventually(lambda: put_together(tmp_path / "out") == {b"run.trc": new}, every=0.1)
        program.quit()


def test_names_that_cannot_be_sent_fail_and_the_others_go_on(sender: Host, bootstrap: str) -> None:
    sender.start()
    for path in (b"not \xff UTF-8", b"LOGS/x", b"good"):
        sender.put(path, b"content")
    eventually(lambda: sum(sender.states("upload").values()) == 3)
    sender.sent(1)
    failed = [one for one in sender.transfers() if one["state"] == "failed"]
    assert {one["path"] for one in failed} == {"not \\xff UTF-8", "LOGS/x"}
    assert all("openmsistream" in one["reason"] and one["fix"] for one in failed)


def test_nobody_waits_for_receipts(
    sender: Host, bootstrap: str, topic: str, tmp_path: Path
) -> None:
    sender.start()
    name = tmp_path / "asked for"
    name.write_bytes(b"content")
    sender_of_it = sender.ctl("send", "--meta", "a=b", name)
    assert sender_of_it.returncode != 0
    assert "no place for --meta" in sender_of_it.stderr
    sent = sender.ctl("send", name)
    assert sent.returncode == 0
    assert "openmsistream's format has no receipts" in sent.stdout
    waiting = sender.ctl("send", "--again", "--until", "delivered", name)
    assert waiting.returncode == 1
    assert "is never called delivered" in waiting.stderr
    sender.terminate()
    topics = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=30).topics
    assert topic in topics
    assert f"{topic}.receipts" not in topics


def _done(host: Host) -> int:
    """Bytes of the newest transfer that are acknowledged."""
    transfers: list[dict[str, Any]] = host.transfers("upload")
    return int(transfers[0]["done"]) if transfers else 0
