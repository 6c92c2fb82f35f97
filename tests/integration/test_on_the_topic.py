"""What kfd writes, as any other Kafka client sees it."""

from __future__ import annotations

import random
import stat

import msgpack
from blake3 import blake3

from tests.integration.conftest import MakeHost
from tests.integration.records import complete, read_topic, transfers_on

CHUNK = 64 * 1024


def test_values_are_the_file_and_nothing_else(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    content = random.Random(2).randbytes(5 * CHUNK + 1)
    host = make_host(receives=False, chunk_size="64KiB")
    host.put("run.trc", content, old=True)
    host.start()
    host.sent(1)
    records = read_topic(bootstrap, topic)
    assert b"".join(record.value() for record in records) == content
    assert len({record.partition() for record in records}) == 1


def test_key_and_header_are_those_of_the_format(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    host = make_host(receives=False, chunk_size="64KiB", origin="scope3")
    host.put(b"run/\xff.trc", bytes(2 * CHUNK + 1), old=True)
    status = (host.up / "run").stat()
    file = next((host.up / "run").iterdir()).stat()
    host.start()
    host.sent(1)
    first, middle, last = read_topic(bootstrap, topic)
    headers = [dict(record.headers()) for record in (first, middle, last)]
    assert all(header.keys() == {"kfd"} for header in headers)
    arrays = [msgpack.unpackb(header["kfd"]) for header in headers]
    (listed,) = host.transfers()
    tid = bytes.fromhex(listed["tid"])
    assert [record.key() for record in (first, middle, last)] == [listed["tid"].encode()] * 3
    begin = {
        "path": b"run/\xff.trc",
        "topic": topic,
        "origin": "scope3",
        "instance": arrays[0][4]["instance"],
        "generation": arrays[0][4]["generation"],
        "size": 2 * CHUNK + 1,
        "mtime_ns": file.st_mtime_ns,
        "mode": stat.S_IMODE(file.st_mode),
        "chunk_size": CHUNK,
        "chunks": 3,
        "meta": {},
    }
    digest = blake3(bytes(2 * CHUNK + 1)).digest()
    end = {"size": 2 * CHUNK + 1, "chunks": 3, "digest": digest}
    assert arrays == [
        [1, tid, 0, 0, begin, None],
        [1, tid, 1, 0, None, None],
        [1, tid, 2, 0, None, end],
    ]
    assert len(begin["instance"]) == 16
    assert abs(begin["generation"] / 1e6 - status.st_mtime) < 3600


def test_small_and_empty_files_are_one_record(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    host = make_host(receives=False)
    host.put("empty", b"", old=True)
    host.put("small", b"small", old=True)
    host.start()
    host.sent(2)
    transfers = complete(transfers_on(bootstrap, topic).values())
    assert {one.begin["path"]: one.values for one in transfers} == {
        b"empty": [b""],
        b"small": [b"small"],
    }


def test_versions_of_a_path_stay_in_one_partition_and_ascend(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    host = make_host(receives=False)
    for version in range(5):
        host.put(f"other {version}", b"moves the choice of the next partition", old=True)
        host.put("run.trc", b"version %d" % version)
        host.start()
        host.sent(2 * version + 2)
        assert host.terminate() == 0
    versions = [
        one
        for one in complete(transfers_on(bootstrap, topic).values())
        if one.begin["path"] == b"run.trc"
    ]
    assert len({number for one in versions for number in one.partitions}) == 1
    assert [one.content for one in versions] == [b"version %d" % n for n in range(5)]
    generations = [one.begin["generation"] for one in versions]
    assert generations == sorted(set(generations))
    assert len({one.begin["instance"] for one in versions}) == 1


def test_files_are_spread_over_the_partitions(
    make_host: MakeHost, bootstrap: str, topic: str
) -> None:
    host = make_host(receives=False)
    for number in range(64):
        host.put(f"{number}", b"x" * 300_000, old=True)
    host.start()
    host.sent(64)
    used = [one.partition() for one in read_topic(bootstrap, topic)]
    assert set(used) == set(range(8))


def test_meta_travels_with_the_file(make_host: MakeHost, bootstrap: str, topic: str) -> None:
    host = make_host()
    host.start()
    file = host.up.parent / "elsewhere.trc"
    file.write_bytes(b"measured")
    done = host.ctl(
        "send", file, "--name", "run/1.trc", "--meta", "sample=Fe \u00e9", "--meta", "n="
    )
    assert done.returncode == 0, done.stderr
    host.receives("run/1.trc")
    (sent,) = transfers_on(bootstrap, topic).values()
    assert sent.begin["meta"] == {"sample": "Fe \u00e9", "n": ""}
