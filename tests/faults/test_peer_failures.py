"""What happened to openmsistream 1.8.8 on a real broker must not happen here.

Each test is named after the failure that was seen, and does what led to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kfd.config import load
from tests.faults.evidence import conflicts, nothing_outside, whole_on_topic
from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host
from tests.integration.oracle import Witness, digest
from tests.integration.records import Sender
from tests.parts import fill, mounted
from tests.support import eventually

pytestmark = pytest.mark.fault(number=22, name="failures-of-the-peer")

CHUNK = 64 << 10
CHUNKED = {"chunk_size": "64KiB", "pools": ONE_READER}
SLOW = {**CHUNKED, "upload": {"rate_limit": "8MiB"}}


@pytest.fixture
def host(make_host: MakeHost) -> Host:
    """One daemon that sends and receives, running."""
    made = make_host(**CHUNKED)
    made.start()
    return made


@pytest.fixture
def receiver(make_host: MakeHost) -> Host:
    """One daemon that only receives, running."""
    made = make_host("receiver", sends=False, pools=ONE_READER)
    made.start()
    return made


def test_path_traversal_by_a_sender_wrote_outside_the_output_directory(
    receiver: Host, sender: Sender, tmp_path: Path
) -> None:
    with nothing_outside(tmp_path, receiver):
        for path in (b"../escaped", b"a/../../escaped", os.fsencode(tmp_path / "escaped")):
            sender.file(path)
        sender.file(b"after them")
        receiver.receives("after them")
        eventually(lambda: receiver.incoming()["bad"] == {"bad-path": 3})
    assert set(receiver.published()) == {b"after them"}


def test_one_non_msgpack_record_stalled_its_partition(receiver: Host, sender: Sender) -> None:
    for headers in (None, [("kfd", b"\xc1 not msgpack")]):
        sender.raw(headers, b"\xc1 not msgpack")
    sender.file(b"behind it, in the same partition")
    receiver.receives("behind it, in the same partition")
    eventually(lambda: receiver.incoming()["bad"] == {"foreign": 1, "malformed": 1})
    eventually(lambda: receiver.incoming()["lag"] == 0)


def test_kill_of_a_consumer_amid_a_file_left_it_unverified(make_host: MakeHost) -> None:
    host = make_host(**SLOW)
    host.start()
    with Witness(host.down) as witness:
        host.put("large", os.urandom(12 << 20))
        eventually(lambda: host.incoming()["receiving"] == 1)
        host.kill9()
        host.start()
        host.receives_all()
    witness.saw_only(host.versions)
    witness.saw_each_once()
    host.clean()


def test_two_hosts_of_a_group_each_got_the_file_with_holes(make_host: MakeHost) -> None:
    sender = make_host("sender", receives=False, **CHUNKED)
    two = [make_host(name, sends=False) for name in ("one", "two")]
    for one in (sender, *two):
        one.start()
    for number in range(16):
        sender.put(f"{number}", os.urandom(20 * CHUNK + number))
    eventually(lambda: sum(len(one.published()) for one in two) >= 16)
    merged = {path: content for one in two for path, content in one.published().items()}
    assert {path: {content} for path, content in merged.items()} == sender.versions
    assert sum(len(one.published()) for one in two) == 16


def test_a_shorter_new_version_kept_the_tail_of_the_old_one(host: Host) -> None:
    with Witness(host.down) as witness:
        for size in (9 * CHUNK + 5, 2 * CHUNK + 1, 3, 0):
            host.put("run.trc", os.urandom(size))
            host.receives_all()
    witness.saw_only(host.versions)
    assert (host.down / "run.trc").stat().st_size == 0


def test_an_edit_during_upload_replaced_497_chunks_by_14_and_was_called_complete(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    host = make_host(**SLOW)
    host.start()
    with Witness(host.down) as witness:
        host.put("run.trc", os.urandom(497 * CHUNK))
        eventually(lambda: host.outgoing()["sending"] == 1)
        newest = os.urandom(14 * CHUNK)
        host.put("run.trc", newest)
        host.receives_all()
    witness.saw_only(host.versions)
    assert list(whole_on_topic(bootstrap, topic)) == [(b"run.trc", digest(newest))]


def test_an_empty_file_that_was_filled_later_was_never_sent(host: Host) -> None:
    for content in (b"", b"filled later"):
        host.put("log.txt", content)
        host.receives_all()


def test_a_file_that_changed_while_the_program_was_down_was_not_sent_again(host: Host) -> None:
    host.put("run.trc", b"version 1")
    host.receives_all()
    host.kill9()
    host.put("run.trc", b"version 2, from while it was down")
    host.start()
    host.receives_all()
    assert conflicts(host) == []


def test_a_chunk_over_the_brokers_limit_was_called_uploaded_and_not_sent(
    make_host: MakeHost, make_topic: Callable[..., str]
) -> None:
    host = make_host(topic=make_topic(**{"max.message.bytes": "100000"}), pools=ONE_READER)
    host.put("run.trc", os.urandom(300_000), old=True)
    host.start()
    eventually(lambda: host.status()["state"] == "degraded")
    assert "takes 100000 bytes a record, chunk_size 524288" in host.status()["problems"][0]["text"]
    assert host.ctl("send", host.up / "run.trc", "--timeout", "1s").returncode != 0
    assert host.arrived() == 0
    assert host.terminate() == 0
    host.config.write_text(host.config.read_text("utf-8") + "chunk_size: 64KiB\n")
    host.start()
    host.receives_all()


def test_a_full_disk_was_not_recovered_from_after_space_was_freed(
    make_host: MakeHost, tmp_path: Path
) -> None:
    with mounted(tmp_path / "small", "tmpfs", "size=8m") as disk:
        received = disk / "received"
        filler = fill(disk, leave=256 << 10)
        host = make_host(download={"directory": str(received)}, **CHUNKED)
        host.start()
        host.put("large", content := os.urandom(2 << 20))
        eventually(lambda: host.status()["state"] == "degraded")
        assert not (received / "large").exists()
        filler.unlink()
        eventually((received / "large").exists)
        assert (received / "large").read_bytes() == content
        eventually(lambda: host.status()["state"] == "running")
        assert host.terminate() == 0


def test_a_semicolon_in_a_name_killed_the_uploader(host: Host) -> None:
    for name in (";", "run;1.trc", "a;b/c;d;"):
        host.put(name, name.encode())
    host.put("after them", b"still alive")
    host.receives_all()


def test_the_default_filter_dropped_catalog_csv_and_blog_x_tif(host: Host) -> None:
    for name in ("catalog.csv", "blog/x.tif", "log", "log.txt", "logs/1.log"):
        host.put(name, name.encode())
    host.receives_all()


@pytest.mark.parametrize("password", ["1e5", "0123456", "12.50", "1_000", "0x1F", "yes"])
def test_a_numeric_looking_password_became_a_float(tmp_path: Path, password: str) -> None:
    """As it stands in the file, without quotes; and it isn't shown."""
    file = tmp_path / "kfd.yaml"
    file.write_text(f"kafka:\n  bootstrap.servers: k:1\n  sasl.password: {password}\n")
    config = load(file)
    assert config.kafka_properties()["sasl.password"] == password
    assert password not in json.dumps(config.model_dump(mode="json"))
