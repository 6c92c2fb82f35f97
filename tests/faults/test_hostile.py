"""Senders that mean harm, or a directory in which somebody plays tricks: contained and counted,
and the files of all others flow on."""

from __future__ import annotations

import ctypes
import os
import random
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.evidence import nothing_outside
from tests.faults.frame import Figures
from tests.faults.judge import Judge, accepted
from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host
from tests.integration.records import CHUNK, Crafted, Sender
from tests.support import eventually

PARTITIONS = 8
MAX_OPEN = 1024  # transfers in a partition, as docs/architecture.md says
SPARE = PARTITIONS * MAX_OPEN * (12 << 10)  # bytes of memory: what so many open transfers may cost
ONLY_BEGUN = 600.0  # seconds in which those that never go on have made room

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def start(make_host: MakeHost, **settings: Any) -> tuple[Host, Host]:
    """An honest sender and a receiver, both running."""
    sender = make_host("sender", receives=False, chunk_size="64KiB")
    receiver = make_host("receiver", sends=False, pools=ONE_READER, **settings)
    sender.start()
    receiver.start()
    return sender, receiver


def begin_only(crafted: Crafted) -> tuple[list[Any], bytes]:
    """The first record of a file that would have more."""
    array, value = next(crafted.records())
    return [*array[:5], None], value


@pytest.mark.fault(number=16, name="begun-transfers", rounds=100_000, short=3_000)
def test_transfers_that_are_only_begun(
    make_host: MakeHost, sender: Sender, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """Each takes a place until there is none; they take neither the memory nor the disk, and a
    large file of somebody else finds a place again, however many there were."""
    source, receiver = start(make_host)
    with Judge([source], [receiver]) as judge:
        source.put("before", b"flows")
        judge.all_published(60)
        memory = receiver.rss()
        for number in range(rounds):
            crafted = Crafted(sender.topic, b"begun %d" % number, b"two chunks", chunk_size=8)
            sender.record(*begin_only(crafted), number % PARTITIONS)
            if number % 10_000 == 0:
                sender.flush()
        sender.flush()
        source.put("small", b"flows at once")
        source.put("large", rng.randbytes(10 * CHUNK))
        receiver.receives("small", deadline=120)
        judge.all_published(ONLY_BEGUN)
        grown = receiver.rss() - memory
        held = len(receiver.private())
        refused = max(0, rounds - PARTITIONS * MAX_OPEN)
        # the large file is refused, too, until one that is idle has made room for it
        bad = {"too-many-open": (refused, rounds + 99), "orphan": (0, 999), "expired": (0, 99)}
        verdict = judge.holds(bad=bad if refused else {})
    assert held <= PARTITIONS * MAX_OPEN + 8
    assert grown < SPARE
    figures.add("transfers begun", rounds)
    figures.sample("held at the end", held)
    figures.sample("MiB that the receiver grew by", grown / 2**20)
    figures.sample("seconds until a large file had come through", verdict.seconds)


@pytest.mark.fault(number=16, name="claims-of-size", rounds=12_000, short=200)
def test_claims_of_more_than_there_can_be(
    make_host: MakeHost, sender: Sender, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """Also where the configuration allows such sizes: what is claimed is neither taken from the
    disk nor kept from others."""
    source, receiver = start(make_host, download={"max_size": str((1 << 62) + 1)})
    free = shutil.disk_usage(receiver.down).free
    sizes = [1 << 60, 1 << 62, free - (1 << 20), free // 2, 1 << 40]
    with Judge([source], [receiver]) as judge:
        for number in range(rounds):
            size = sizes[number % len(sizes)] // CHUNK * CHUNK
            claims = {"size": size, "chunks": size // CHUNK}
            crafted = Crafted(sender.topic, b"claim %d" % number, bytes(CHUNK), begin=claims)
            sender.record(*begin_only(crafted), number % PARTITIONS)
            if number % 20 == 0:
                source.put(f"small/{number}", rng.randbytes(100))
            if number % 100 == 0:
                source.put(f"large/{number}", rng.randbytes(5 * CHUNK))
        sender.flush()
        judge.all_published(ONLY_BEGUN)
        taken = sum(one.lstat().st_blocks * 512 for one in (receiver.down / ".kfd").iterdir())
        verdict = judge.holds(
            bad=dict.fromkeys(["too-big", "too-many-open", "expired"], (0, rounds))
        )
    assert taken <= rounds * 2 * CHUNK
    figures.add("claims", rounds)
    figures.add("files among them", verdict.files)


NASTY = (b"..", b".", b"", b"a", b".kfd", b"a\0b", b"owner", b"etc", b"\xff", b"...", b"..a")


def is_sound(path: bytes) -> bool:
    """Whether docs/wire-format.md allows such a path, of the components above."""
    components = path.split(b"/")
    return (
        b"\0" not in path
        and not {b"", b".", b".."} & set(components)
        and components[0] != b".kfd"
        and len(components) <= 32
    )


@pytest.mark.fault(number=16, name="paths", rounds=3_000, short=300)
def test_paths_that_lead_elsewhere(
    make_host: MakeHost,
    sender: Sender,
    tmp_path: Path,
    rounds: int,
    rng: random.Random,
    figures: Figures,
) -> None:
    """Nothing is made outside of the directory; of what is sound each file gets a name."""
    receiver = make_host("receiver", sends=False, pools=ONE_READER)
    receiver.start()
    made = [b"/".join(rng.choices(NASTY, k=rng.randrange(1, 6))) for _ in range(rounds)]
    made += [b"../" * depth + b"escaped" for depth in range(1, 20)]
    made += [os.fsencode(tmp_path / "escaped"), b"/etc/escaped", b"d/" * 32 + b"deep"]
    sound = [path for path in made if is_sound(path)]
    with nothing_outside(tmp_path, receiver):
        for number, path in enumerate(made):
            sender.send(Crafted(sender.topic, path, b"%d" % number, origin=f"o{number}"))
        sender.send(Crafted(sender.topic, b"after them"))
        sender.flush()
        receiver.receives("after them")
        eventually(lambda: receiver.incoming()["lag"] == 0)
        route = receiver.incoming()
    assert route["bad"] == {"bad-path": len(made) - len(sound)}
    # a file may stand where another one's directory should be
    assert route["published"] + route["quarantined"] == len(sound) + 1
    assert not Path("/etc/escaped").exists()
    figures.add("paths that lead elsewhere", len(made) - len(sound))
    figures.add("sound ones", len(sound))


def exchange(one: Path, other: Path) -> bool:
    """Let two names change places, in one step."""
    both = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    return bool(_LIBC.renameat2(*both, _RENAME_EXCHANGE) == 0)


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[Counter[str]]:
    """Exchange two names all the time, in a thread; counts how often."""
    swaps: Counter[str] = Counter()
    stop = threading.Event()

    def swap() -> None:
        while not stop.wait(0.0005):
            swaps["done" if exchange(one, other) else "failed"] += 1

    thread = threading.Thread(target=swap, name="swapping")
    thread.start()
    try:
        yield swaps
    finally:
        stop.set()
        thread.join()


@pytest.mark.fault(number=16, name="symlink-swapped-in", rounds=1_500, short=0)
def test_symlink_that_is_swapped_in_for_a_directory(
    make_host: MakeHost, tmp_path: Path, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """A directory that files are published into is now a directory, now a link to elsewhere.

    What comes while it is a link is quarantined, and sent again: it is there in the end, or said
    to have failed.
    """
    source, receiver = start(make_host)
    inside, outside, link = receiver.down / "d", tmp_path / "outside", tmp_path / "link"
    outside.mkdir()
    link.symlink_to(outside)
    inside.mkdir()
    with swapping(inside, link) as swaps:
        for number in range(rounds):
            source.put(f"d/deep/{number}", rng.randbytes(rng.randrange(2 * CHUNK)))
            source.put(f"elsewhere/{number}", b"flows on")
        elsewhere = [f"elsewhere/{number}" for number in range(rounds)]
        receiver.receives(*elsewhere, deadline=120)
        eventually(lambda: said(source)["queued"] == said(source)["sending"] == 0, 120, every=1)
    if inside.is_symlink():
        exchange(inside, link)
    eventually(lambda: said(source)["in_kafka"] == 0, 150, every=1)
    assert swaps["failed"] == 0
    assert list(outside.iterdir()) == []
    there = {path: {found} for path, found in receiver.published().items()}
    assert there.items() <= source.versions.items()
    assert len(there) + said(source)["failed"] == 2 * rounds
    figures.add("swaps", swaps["done"])
    figures.add("quarantined, and sent again", receiver.incoming()["quarantined"])
    figures.add("failed, and said so", said(source)["failed"])


def said(source: Host) -> Counter[str]:
    """How many transfers are in each state, as the sender has it."""
    return Counter(state for _, state in accepted(source))


ESCAPES = (
    *(b"\x1b[2J\x1b[31mred", b"\x1b]0;title\x07", b"\x1b]52;c;cm0gLXJm\x07", b"\x9b31m"),
    *(b"\r\nkfd: ok", b"\x7f\x08\x08", b"\xff\xfe\x1b", b"\tcolumn\tcolumn", b"% s %n %x"),
    *(b"{origin}", b"'; rm -rf /; '", "\u202egnp.exe".encode(), "\u2066\u2029".encode()),
    "\u200bzero".encode(),
)
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.mark.fault(number=16, name="names-with-escapes")
def test_names_with_escapes_reach_neither_the_terminal_nor_the_log(
    make_host: MakeHost, sender: Sender, figures: Figures
) -> None:
    """Published, quarantined and refused ones, and of a sender's own."""
    source, receiver = start(make_host)
    with Judge([source], [receiver]) as judge:
        for number, name in enumerate(ESCAPES):
            source.put(b"own/" + name, b"%d" % number)
            sender.send(Crafted(sender.topic, b"bad/" + name, end={"digest": bytes(32)}))
            sender.send(Crafted(sender.topic, b"../" + name))
        sender.flush()
        bad = {"bad-path": (len(ESCAPES),) * 2, "digest-mismatch": (len(ESCAPES),) * 2}
        judge.all_published(60)
        eventually(lambda: receiver.incoming()["quarantined"] == len(ESCAPES))
        judge.holds(bad=bad)
    for host in (source, receiver):
        shown = [host.log()]
        for command in (["status"], ["list", "--limit", "1000"], ["list", "--json"]):
            done = host.ctl(*command)
            shown += [done.stdout, done.stderr]
        unsafe = [line for text in shown for line in text.split("\n") if UNSAFE.search(line)]
        assert unsafe == []
        assert "\\x1b[31mred" in "".join(shown)  # shown, and safe
    figures.add("names", 3 * len(ESCAPES))


@pytest.mark.fault(number=16, name="file-for-a-directory", rounds=300, short=40)
def test_file_where_a_directory_is_needed(
    make_host: MakeHost, sender: Sender, rounds: int, rng: random.Random, figures: Figures
) -> None:
    """Each such file is quarantined with the reason, none stands in another one's way."""
    source, receiver = start(make_host)
    with Judge([source], [receiver]) as judge:
        source.put("data", b"a file")
        judge.all_published(60)
        for number in range(rounds):
            crafted = Crafted(sender.topic, b"data/%d/run.trc" % number, rng.randbytes(100))
            sender.send(crafted, number % PARTITIONS)
            source.put(f"others/{number}", rng.randbytes(rng.randrange(2 * CHUNK)))
        sender.flush()
        eventually(lambda: receiver.incoming()["quarantined"] == rounds, 60, every=0.1)
        judge.holds()
    reasons = {one["reason"] for one in receiver.transfers() if one["state"] == "quarantined"}
    assert reasons == {"its name can't be used here: Not a directory: data"}
    receiver.clean(held=rounds)
    figures.add("quarantined", rounds)
