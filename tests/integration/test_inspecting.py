"""``kfdctl inspect topic`` on a real broker: all kinds of records, hostile ones, no trace left."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from confluent_kafka.admin import AdminClient
from jsonschema import Draft202012Validator

from kfd.ctl.render import columns_of
from kfd.openmsistream import Encoder
from tests.integration.records import Crafted, Sender
from tests.support import CHECKOUT, eventually
from tests.unit.ctl.documents import DOCUMENTS
from tests.unit.ctl.kfdctl import DEADLINE, Terminal, environment, run, start

SCHEMA = json.loads((CHECKOUT / "docs/kfdctl.schema.json").read_text())
CONTENT = random.Random(3).randbytes(5 * 65536 + 7)
HOSTILE = b"evil\x1b[31m\n\xe2\x80\xae\xff.trc"

Inspect = Callable[..., tuple[int, str, str]]


@pytest.fixture
def inspect(bootstrap: str, topic: str) -> Inspect:
    """``kfdctl inspect topic TOPIC`` with these options."""

    def call(*options: str | Path) -> tuple[int, str, str]:
        return run("inspect", "topic", topic, "--bootstrap", bootstrap, *options)

    return call


def lines(answer: tuple[int, str, str]) -> list[dict[str, Any]]:
    """The records of ``--json``; each is what the schema says."""
    code, out, err = answer
    assert (code, err) == (0, "")
    documents = [json.loads(line) for line in out.splitlines()]
    for document in documents:
        fits("inspect topic", document)
    return [document["record"] for document in documents]


def fits(verb: str, document: Any) -> None:
    Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{verb}"}).validate(document)
    assert set(document) == {"version", *DOCUMENTS[verb]}


def send_as_peer(sender: Sender, path: bytes, content: bytes, *, leave_out: int = 0) -> None:
    """As openmsistream does: the chunks shuffled over all partitions, one of them twice."""
    pieces = [content[at : at + 65536] for at in range(0, len(content), 65536)]
    encoder = Encoder(path, hashlib.sha512(content).digest(), len(pieces), 1e9)
    numbers = [*range(1, len(pieces) + 1), 1]
    random.Random(5).shuffle(numbers)
    for number in numbers:
        if number == leave_out:
            continue
        data = pieces[number - 1]
        digest = hashlib.sha512(data).digest()
        value = encoder.value(number, (number - 1) * 65536, data, digest)
        sender.raw([], value, partition=number % 8)
    sender.flush()


@pytest.fixture
def mixed(sender: Sender) -> Crafted:
    """A topic with all kinds; the transfer of kfd's on it."""
    for number in range(50):  # so that the interpreter has specialized what reads them
        sender.raw([("other", b"?")], f"line {number}".encode(), partition=1)
    crafted = sender.file(b"run/42.trc", CONTENT, origin="scope3")
    sender.file(HOSTILE, b"x", origin="scope9", begin={"meta": {"\x1b[2J": "\x07"}})
    send_as_peer(sender, b"sub/peer.dat", CONTENT)
    sender.raw(None, b"\x1b[2Jhello\n\x9b2J", partition=2)
    sender.raw(None, None, partition=2)
    sender.raw([("kfd", b"junk\x1b")], b"\x1b]0;x\x07", partition=2)
    sender.unnameable(2)
    return crafted


def test_all_kinds_are_told_apart(mixed: Crafted, inspect: Inspect) -> None:
    records = lines(inspect("--json"))
    kinds = {kind: [one for one in records if one["kind"] == kind]
             for kind in ("kfd", "openmsistream", "bad", "foreign")}  # fmt: skip
    assert {kind: len(found) for kind, found in kinds.items()} == {
        "kfd": 7, "openmsistream": 7, "bad": 1, "foreign": 53,
    }  # fmt: skip
    mine = [one for one in kinds["kfd"] if one["tid"] == mixed.tid.hex()]
    assert [one["index"] for one in mine] == list(range(6))
    assert mine[0]["begin"]["path"] == "run/42.trc"
    assert mine[-1]["end"]["size"] == len(CONTENT)
    assert {one["chunk"]["path"] for one in kinds["openmsistream"]} == {"sub/peer.dat"}
    assert all(one["chunk"]["intact"] for one in kinds["openmsistream"])


def test_nothing_raw_is_printed(mixed: Crafted, inspect: Inspect) -> None:
    for options in ([], ["--json"], ["--count"]):
        code, out, err = inspect(*options)
        assert (code, err) == (0, "")
        assert all(line.isprintable() for line in out.splitlines())
    assert "evil\\x1b[31m\\x0a\\xe2\\x80\\xae\\xff.trc" in inspect()[1]


def test_what_is_counted(mixed: Crafted, inspect: Inspect, topic: str) -> None:
    code, out, _ = inspect("--count", "--json")
    document = json.loads(out)
    fits("inspect topic --count", document)
    totals = document["totals"]
    assert code == 0
    assert totals["records"] == sum(one["high"] for one in totals["partitions"]) == 68
    kinds = {one["kind"]: (one["records"], one["begins"], one["ends"]) for one in totals["kinds"]}
    assert kinds["kfd"] == (7, 2, 2)
    assert kinds["openmsistream"][0] == 7
    assert kinds["foreign"][0] == 53
    assert list(totals["bad"].values()) == [1]
    shown = inspect("--count")[1].splitlines()
    assert shown[0].startswith(f"{topic}: 68 records, ")


def test_where_it_begins(mixed: Crafted, inspect: Inspect) -> None:
    def count(*options: str) -> int:
        answer = json.loads(inspect("--count", "--json", *options)[1])["totals"]["records"]
        assert isinstance(answer, int)
        return answer

    assert count("--partition", "1", "--kind", "foreign") == 50
    assert count("--partition", "1", "--from", "40", "--kind", "foreign") == 10
    assert count("--from", "latest") == 0
    assert count("--from", "5m") == 68
    assert count("--from", "2001-01-01T00:00:00Z") == 68
    assert count("--from", "2999-01-01") == 0
    assert count("--limit", "3") == 3
    assert inspect("--partition", "99")[0] == 2
    for nowhere in ("yesterday", "9" * 5000):
        assert inspect("--from", nowhere)[0] == 2


def test_what_is_chosen(mixed: Crafted, inspect: Inspect) -> None:
    assert len(lines(inspect("--json", "--path", "run/*"))) == 6
    assert len(lines(inspect("--json", "--origin", "scope9"))) == 1
    assert len(lines(inspect("--json", "--tid", mixed.tid.hex()[-8:]))) == 6
    assert len(lines(inspect("--json", "--path", "*.dat", "--kind", "openmsistream"))) == 7
    assert len(lines(inspect("--json", "--limit", "2", "--kind", "kfd"))) == 2


@pytest.mark.parametrize("columns", [80, 40])
def test_it_fits_the_terminal(mixed: Crafted, bootstrap: str, topic: str, columns: int) -> None:
    for options in ([], ["--count"]):
        terminal = Terminal(
            "inspect", "topic", topic, "--bootstrap", bootstrap, *options, columns=columns
        )
        assert terminal.end() == 0
        assert [line for line in terminal.lines if columns_of(line) > columns] == []


def test_no_trace_is_left(mixed: Crafted, inspect: Inspect, bootstrap: str) -> None:
    inspect()
    admin = AdminClient({"bootstrap.servers": bootstrap})
    groups = {one.group_id for one in admin.list_consumer_groups().result(30).valid}
    assert "kfd" not in groups
    none = f"kfd-none-{os.urandom(4).hex()}"
    code, _, err = run("inspect", "topic", none, "--bootstrap", bootstrap)
    assert (code, err.splitlines()[0]) == (1, f"kfdctl: there is no topic {none}")
    assert none not in admin.list_topics(timeout=30).topics


def test_following(mixed: Crafted, sender: Sender, bootstrap: str, topic: str) -> None:
    options = ["--from", "latest", "--follow", "--json", "--limit", "2", "--kind", "kfd"]
    with start("inspect", "topic", topic, "--bootstrap", bootstrap, *options) as process:

        def came() -> bool:
            sender.file(b"new", b"x")  # until it has begun to read
            return process.poll() is not None

        eventually(came, every=0.5)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, "")
    records = [json.loads(line)["record"] for line in out.splitlines()]
    assert [one["begin"]["path"] for one in records] == ["new", "new"]


def test_interrupted(mixed: Crafted, bootstrap: str, topic: str) -> None:
    with start("inspect", "topic", topic, "--bootstrap", bootstrap, "--follow") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err.strip()) == (130, "")


def test_no_broker(topic: str) -> None:
    code, out, err = run(
        "inspect", "topic", topic, "--bootstrap", "127.0.0.1:1", "--connect-timeout", "1"
    )
    assert (code, out) == (1, "")
    assert "Connection refused" in err
    assert "  fix: " in err


def test_a_configuration_names_the_brokers(
    mixed: Crafted, bootstrap: str, topic: str, tmp_path: Path
) -> None:
    config = tmp_path / "kfd.yaml"
    config.write_text(f"kafka: {{bootstrap.servers: '{bootstrap}'}}\n")
    assert len(lines(run("inspect", "topic", topic, "--config", config, "--json"))) == 68
    both = run("inspect", "topic", topic, "--config", config, "--bootstrap", bootstrap)
    assert both[0] == 2


def test_a_whole_file_is_extracted(mixed: Crafted, inspect: Inspect, tmp_path: Path) -> None:
    file = tmp_path / "out.trc"
    code, out, err = inspect("--extract", mixed.tid.hex()[-8:], "-o", file, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    fits("inspect topic --extract", document)
    assert document["extracted"]["path"] == "run/42.trc"
    assert file.read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["out.trc"]


def test_what_is_there_is_replaced_only_if_asked(
    mixed: Crafted, inspect: Inspect, tmp_path: Path
) -> None:
    file = tmp_path / "out.trc"
    file.write_bytes(b"mine")
    assert inspect("--extract", mixed.tid.hex(), "-o", file)[0] == 1
    assert file.read_bytes() == b"mine"
    assert inspect("--extract", mixed.tid.hex(), "-o", file, "--overwrite")[0] == 0
    assert file.read_bytes() == CONTENT


def test_a_file_of_the_peers_is_extracted(mixed: Crafted, inspect: Inspect, tmp_path: Path) -> None:
    (tid,) = {one["tid"] for one in lines(inspect("--json", "--kind", "openmsistream"))}
    file = tmp_path / "peer.dat"
    assert inspect("--extract", tid[-8:], "-o", file)[0] == 0
    assert file.read_bytes() == CONTENT


def test_to_stdout(mixed: Crafted, bootstrap: str, topic: str) -> None:
    """Raw there, for it is a file; but never on a terminal."""
    command = ["inspect", "topic", topic, "--bootstrap", bootstrap, "--extract",
               mixed.tid.hex(), "-o", "-"]  # fmt: skip
    with start(*command) as process:
        assert process.stdout is not None
        content = process.stdout.buffer.read()  # type: ignore[attr-defined]
    assert content == CONTENT
    terminal = Terminal(*command)
    assert terminal.end() == 2
    assert "a terminal is no place" in terminal.screen


@pytest.mark.parametrize(
    ("redirected", "unbuffered", "says"),
    [
        ("exec >/dev/full", "", "kfdctl: stdout can't be written: No space left on device"),
        ("exec >/dev/full", "1", "kfdctl: stdout can't be written: No space left on device"),
        ("ulimit -f 8", "", "{tmp}: can't be written: File too large"),
    ],
)
def test_no_room_for_what_goes_to_stdout(
    mixed: Crafted, bootstrap: str, tmp_path: Path, redirected: str, unbuffered: str, says: str
) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'{redirected}; exec "$@"', "sh", sys.executable, "-m", "kfd.ctl",
         "inspect", "topic", mixed.topic, "--bootstrap", bootstrap, "--extract", mixed.tid.hex(),
         "-o", "-"],
        check=False, capture_output=True, text=True, timeout=DEADLINE,
        env=environment(PYTHONUNBUFFERED=unbuffered, TMPDIR=str(tmp_path)),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    first, fix = done.stderr.splitlines()
    assert first == says.format(tmp=tmp_path)
    assert fix.startswith("  fix: ")


def spoil(sender: Sender, how: str) -> Crafted:
    crafted = Crafted(sender.topic, b"run.trc", CONTENT)
    records = list(crafted.records())
    if how == "tampered":
        records[2] = (records[2][0], bytes(65536))
    elif how == "partial":
        del records[4]
    elif how == "headless":
        del records[0]
    elif how == "aborted":
        records[3:] = [([1, crafted.tid, 3, 2, None, None], b"")]
    elif how == "resumed":
        records[3:3] = records[1:3]
    for array, value in records:
        sender.raw([("kfd", msgpack.packb(array))], value)
    sender.flush()
    return crafted


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("tampered", "are not the file that was sent"),
        ("partial", "is not whole on the topic: 4 of 6 chunks"),
        ("headless", "is not there; others of it are"),
        ("aborted", "its sender gave it up: 3 of 6 chunks"),
    ],
)
def test_what_is_not_whole_is_not_written(
    sender: Sender, inspect: Inspect, tmp_path: Path, how: str, says: str
) -> None:
    crafted = spoil(sender, how)
    for output in (tmp_path / "out.trc", Path("-")):
        code, out, err = inspect("--extract", crafted.tid.hex(), "-o", output)
        assert (code, out) == (10, "")
        assert says in err
    assert os.listdir(tmp_path) == []


def test_repeats_of_a_resume_are_left_out(sender: Sender, inspect: Inspect, tmp_path: Path) -> None:
    crafted = spoil(sender, "resumed")
    file = tmp_path / "out.trc"
    assert inspect("--extract", crafted.tid.hex(), "-o", file)[0] == 0
    assert file.read_bytes() == CONTENT


def test_a_file_of_the_peers_with_a_hole(sender: Sender, inspect: Inspect, tmp_path: Path) -> None:
    send_as_peer(sender, b"peer.dat", CONTENT, leave_out=4)
    (tid,) = {one["tid"] for one in lines(inspect("--json"))}
    code, _, err = inspect("--extract", tid, "-o", tmp_path / "out")
    assert code == 10
    assert "5 of 6 chunks came, the first that didn't is 4" in err
    assert os.listdir(tmp_path) == []


def test_no_such_transfer(mixed: Crafted, inspect: Inspect, tmp_path: Path) -> None:
    assert inspect("--extract", "0" * 32, "-o", tmp_path / "out")[0] == 12
    assert inspect("--extract", "zz", "-o", tmp_path / "out")[0] == 2
    assert inspect("--extract", "0" * 32)[0] == 2
    code, _, err = inspect("--extract", mixed.tid.hex(), "-o", f"{tmp_path}/new/")
    assert (code, os.listdir(tmp_path)) == (2, [])
    assert "names a directory" in err


def test_an_extraction_can_wait_for_the_rest(
    sender: Sender, bootstrap: str, topic: str, tmp_path: Path
) -> None:
    crafted = Crafted(topic, b"run.trc", CONTENT)
    records = list(crafted.records())
    for array, value in records[:4]:
        sender.record(array, value)
    sender.flush()
    file = tmp_path / "out.trc"
    options = ["--follow", "--extract", crafted.tid.hex(), "-o", str(file)]
    with start("inspect", "topic", topic, "--bootstrap", bootstrap, *options) as process:
        eventually(lambda: os.listdir(tmp_path))  # it has begun
        for array, value in records[4:]:
            sender.record(array, value)
        sender.flush()
        _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, "")
    assert file.read_bytes() == CONTENT


def test_an_extraction_can_wait_for_what_was_spoilt(
    sender: Sender, bootstrap: str, topic: str, inspect: Inspect, tmp_path: Path
) -> None:
    """By a chunk of the peer's that is what its digest says, and not what was sent."""
    right, wrong = CONTENT[:65536], bytes(65536)
    encoder = Encoder(b"peer.dat", hashlib.sha512(right).digest(), 1, 1e9)
    wrong_value, value = (
        encoder.value(1, 0, content, hashlib.sha512(content).digest()) for content in (wrong, right)
    )
    sender.raw([], wrong_value)
    sender.flush()
    (record,) = lines(inspect("--json"))
    options = ["--follow", "--extract", record["tid"], "-o", str(tmp_path / "out")]
    with start("inspect", "topic", topic, "--bootstrap", bootstrap, *options) as process:
        assert process.stderr is not None
        assert "are not the file that was sent; waiting" in process.stderr.readline()
        sender.raw([], value)
        sender.flush()
        _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, "")
    assert (tmp_path / "out").read_bytes() == right
