"""Files of every name, size and way of arrival come out as they went in."""

from __future__ import annotations

import os
import random
import shutil
import stat

import pytest

from tests.integration.conftest import MakeHost
from tests.integration.host import LONG_AGO, POWERLESS, Host
from tests.integration.oracle import Witness, digest
from tests.support import eventually

CHUNK = 64 * 1024
NAMES = [
    b"two words.trc",
    b" spaces around ",
    b"new\nline",
    b"tab\tand\rreturn",
    b'it\'s "quoted"',
    b"semi;colon; rm -rf $HOME",
    b"$(reboot) `id` | & > <",
    b"100% %s %n",
    b"--help",
    b"-",
    b"back\\slash\\x41",
    b"*?[a-z]",
    b"\x01\x1b[31mred\x7f",
    b"\xff\xfe not utf-8 \x80",
    "caf\u00e9".encode(),  # NFC
    "cafe\u0301".encode(),  # NFD: another file
    "\u202egnp.exe".encode(),  # shown from right to left
    "\U0001f52c microscope".encode(),
    b"n" * 255,
    b"d" * 255 + b"/" + b"e" * 255 + b"/" + b"f" * 255,
    b"/".join(b"level %d" % level for level in range(30)) + b"/deep",
    b"catalog.csv",
    b"blog/x.tif",
    b"sub/name with.dots.tar.gz",
    b"nobody.conflict-00000000000000000000000000000000.trc",
]


def test_awkward_names_arrive_as_they_are(make_host: MakeHost) -> None:
    host = make_host()
    half = len(NAMES) // 2
    for number, name in enumerate(NAMES[:half]):
        host.put(name, b"there before %d" % number, old=True)
    host.start()
    for number, name in enumerate(NAMES[half:]):
        host.put(name, b"put in later %d" % number)
    host.receives_all()
    assert set(host.published()) == set(NAMES)
    host.counts_published(len(NAMES))
    assert host.arrived() == len(NAMES)
    assert host.incoming()["bad"] == {}


def test_sizes_around_the_chunk(make_host: MakeHost) -> None:
    """Whole chunks, one byte more and less, nothing at all, and more than the queue may hold."""
    host = make_host(chunk_size="64KiB", queue={"size": "1MiB"})
    content = random.Random(1).randbytes(48 * CHUNK + 7)
    sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK, len(content)]
    for size in sizes:
        host.put(f"{size}", content[:size])
    with Witness(host.down) as witness:
        host.start()
        host.receives_all()
    witness.saw_only(host.versions)
    witness.saw_each_once()
    host.clean()


def test_many_files_are_published_once_each(make_host: MakeHost) -> None:
    host = make_host()
    for number in range(400):
        host.put(f"{number % 20}/{number}.dat", b"%d" % number * number, old=True)
    with Witness(host.down) as witness:
        host.start()
        host.receives_all()
    witness.saw_only(host.versions)
    witness.saw_each_once()
    host.counts_published(400)
    assert set(host.states("download").values()) == {1}
    assert host.incoming()["records"] == host.arrived() == 400


def test_renamed_in_files_and_directories(host: Host) -> None:
    outside = host.up.parent / "outside"
    (outside / "run" / "raw").mkdir(parents=True)
    for path in ("run/a.trc", "run/raw/b.trc", "single.trc"):
        (outside / path).write_bytes(path.encode())
    (outside / "single.trc").rename(host.up / "single.trc")
    (outside / "run").rename(host.up / "run")
    host.receives_all()
    assert set(host.published()) == {b"single.trc", b"run/a.trc", b"run/raw/b.trc"}
    (host.up / "run" / "raw" / "later.trc").write_bytes(b"in a directory that was renamed in")
    host.receives("run/raw/later.trc")


def test_copied_tree_arrives(host: Host) -> None:
    """Directories and files made faster than anybody can watch them."""
    source = host.up.parent / "source"
    for number in range(60):
        path = source / f"{number % 7}" / f"{number % 5}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(number * 100))
    shutil.copytree(source, host.up / "tree")
    host.receives_all()


@pytest.mark.parametrize("prefix", [[], POWERLESS], ids=["as it is", "without root's power"])
def test_mode_and_mtime_arrive(make_host: MakeHost, prefix: list[str]) -> None:
    """Also where permissions count, as they do for the service: 0400 must take its mark."""
    host = make_host(download={"file_mode": "0750"})
    host.prefix = prefix if os.geteuid() == 0 else []
    for mode in (0o400, 0o644, 0o755, 0o4777):
        path = host.up / f"{mode:o}"
        path.write_bytes(b"mode")
        path.chmod(mode)
        os.utime(path, ns=(1, -1_234_567_891))
    host.start()
    host.receives("400", "644", "755", "4777")
    published = {path.name: path.stat() for path in host.down.iterdir() if path.name != ".kfd"}
    modes = {name: stat.S_IMODE(status.st_mode) for name, status in published.items()}
    assert modes == {"400": 0o400, "644": 0o640, "755": 0o750, "4777": 0o750}
    assert {status.st_mtime_ns for status in published.values()} == {-1_234_567_891}


def test_empty_file_is_sent_and_again_when_filled(host: Host) -> None:
    host.put("log", b"")
    host.receives_all()
    host.put("log", b"filled")
    host.receives_all()
    eventually(lambda: host.states("upload") == {("log", "delivered"): 2})


def test_new_version_replaces_the_old_one(make_host: MakeHost) -> None:
    """A longer one, then a shorter one, of which the old tail must not stay; then a renamed-in."""
    host = make_host(chunk_size="64KiB")
    host.start()
    with Witness(host.down) as witness:
        for version, size in enumerate((CHUNK, 5 * CHUNK + 1, 3)):
            host.put("run.trc", bytes([version]) * size)
            host.receives_all()
        replacement = host.up.parent / "replacement"
        replacement.write_bytes(b"renamed over")
        host.versions[b"run.trc"].add(digest(b"renamed over"))
        replacement.rename(host.up / "run.trc")
        host.receives_all()
    witness.saw_only(host.versions)
    host.counts_published(4)


def test_slowly_written_file_is_sent_whole(make_host: MakeHost) -> None:
    """Nothing is sent of a file that is written now and then, until it is closed."""
    host = make_host(upload={"settle": "10m"})
    host.start()
    with Witness(host.down) as witness:
        with (host.up / "slow").open("wb") as file:
            for part in range(20):
                file.write(b"part %d\n" % part)
                file.flush()
                host.put(f"meanwhile {part}", b"done")
                host.receives(f"meanwhile {part}")
        host.versions[b"slow"].add(digest((host.up / "slow").read_bytes()))
        host.receives_all()
    witness.saw_only(host.versions)


def test_existing_skip_sends_only_what_comes_later(make_host: MakeHost) -> None:
    host = make_host(upload={"existing": "skip"})
    host.put("before", b"there before the route")
    host.put("changed", b"there before the route")
    host.start()
    host.put("changed", b"and changed after")
    host.put("new", b"new")
    host.receives("changed", "new")
    assert host.terminate() == 0
    host.put("while down", b"put while the daemon was down")
    host.start()
    host.receives("while down")
    assert set(host.published()) == {b"changed", b"new", b"while down"}


def test_include_and_exclude(make_host: MakeHost) -> None:
    host = make_host(upload={"include": ["*.trc", "raw/"], "exclude": ["*.tmp", "scratch/"]})
    host.start()
    for path in ("a.trc", "deep/b.trc", "raw/c.txt"):
        host.put(path, b"wanted")
    for path in ("a.txt", "raw/c.tmp", "scratch/d.trc"):
        host.put(path, b"not wanted")
    host.put("z.trc", b"the last")
    host.receives("a.trc", "deep/b.trc", "raw/c.txt", "z.trc")
    assert set(host.published()) == {b"a.trc", b"deep/b.trc", b"raw/c.txt", b"z.trc"}


def test_default_exclude_leaves_out_what_is_unfinished(host: Host) -> None:
    for name in (".hidden", ".git/config", "~lock", "x.tmp", "sub/y.part", ".kfd/z"):
        host.put(name, b"not wanted")
    host.put("sub/data.csv", b"wanted")
    host.receives("sub/data.csv")
    assert set(host.published()) == {b"sub/data.csv"}
    assert host.arrived() == 1


def test_default_layout_has_the_origin(make_host: MakeHost) -> None:
    host = make_host(origin="scope3", download={"layout": "{origin}/{path}"})
    host.put("run/1.trc", b"one", old=True)
    host.start()
    host.receives("scope3/run/1.trc")
    assert host.status()["origin"] == "scope3"


@pytest.mark.parametrize("replacement", ["symlink", "fifo", "directory"])
def test_what_is_no_regular_file_is_not_sent(host: Host, replacement: str) -> None:
    odd = host.up / "odd"
    if replacement == "symlink":
        odd.symlink_to("/etc/passwd")
    elif replacement == "fifo":
        os.mkfifo(odd)
    else:
        odd.mkdir()
    host.put("regular", b"regular")
    host.receives("regular")
    assert set(host.published()) == {b"regular"}
    assert host.arrived() == 1


def test_status_counts_what_moved(make_host: MakeHost) -> None:
    host = make_host()
    host.start()
    host.put("a", b"1" * 1000)
    host.put("b", b"2" * 1000)
    host.receives("a", "b")
    eventually(lambda: host.arrived() == 2)
    route, status = host.incoming(), host.status()
    assert (route["published"], route["records"], route["receiving"]) == (2, 2, 0)
    assert (route["quarantined"], route["bad"]) == (0, {})
    assert status["state"] == "running"
    assert status["problems"] == []
    assert (status["producer_threads"], status["consumer_threads"]) == (5, 5)
    assert status["brokers_up"] == status["brokers_known"] == 1
    eventually(lambda: host.incoming()["lag"] == 0)
    assert route["last_at"] > LONG_AGO
