"""The watcher where the directory is away, the kernel loses events or refuses watches."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyFD

from kfd.daemon.watcher.watcher import Watcher
from tests.parts import in_child
from tests.privileges import enter_own_namespace, unprivileged
from tests.support import eventually, unavailable
from tests.watching import LONG_AGO, NEVER, put, watched

INOTIFY = Path("/proc/sys/fs/inotify")


@pytest.fixture
def open_lab() -> Iterator[Path]:
    """A directory that everybody may reach."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        (Path(name) / "lab").mkdir()
        (Path(name) / "lab").chmod(0o755)
        yield Path(name) / "lab"


def test_missing_directory_comes_into_being(tmp_path: Path) -> None:
    with watched(tmp_path / "lab", settle=NEVER) as seen:
        seen.problem("lab is missing")
        assert "create" in seen.health.problems()[0].fix
        (tmp_path / "lab").mkdir()
        seen.no_problem()
        put(tmp_path / "lab" / "a")
        seen.saw("a")


def test_directory_removed_and_made_again(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    with watched(lab, settle=NEVER / 2) as seen:
        put(lab / "a")
        seen.saw("a")
        shutil.rmtree(lab)
        seen.problem("lab is missing")
        lab.mkdir()
        put(lab / "b", mtime=LONG_AGO)
        seen.saw("b")
        seen.no_problem()


def test_directory_replaced_between_two_looks(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    with watched(lab, settle=NEVER / 2) as seen:
        for turn in range(3):  # with the same inode number too, where the file system does that
            shutil.rmtree(lab)
            lab.mkdir()
            put(lab / f"{turn}", mtime=LONG_AGO)
            seen.saw(f"{turn}")
            more = f"{turn}-more".encode()
            eventually(lambda more=more: _put_again(lab, more) and more in seen.sink.paths())


def _put_again(directory: Path, name: bytes) -> Path:
    """The scan may have come just before the new watch: closing again tells if there is one."""
    return put(directory / os.fsdecode(name))


def test_directory_replaced_while_a_scan_has_to_wait(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    for number in range(2500):
        put(lab / f"{number}")

    def limit(watcher: Watcher) -> None:
        watcher._intake._candidates._limit = 1200

    with watched(lab, settle=NEVER, prepare=limit) as seen:
        eventually(lambda: seen.watcher._intake.full)
        lab.rename(tmp_path / "other")
        lab.mkdir()
        put(lab / "a", mtime=LONG_AGO)
        seen.saw("a")
        assert str(tmp_path / "other") not in _open_files()


def _open_files() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return found


def test_directory_replaced_by_a_file(tmp_path: Path) -> None:
    put(tmp_path / "lab")
    with watched(tmp_path / "lab") as seen:
        seen.problem("lab is not a directory")


def test_directory_that_may_not_be_read(open_lab: Path) -> None:
    put(open_lab / "a", mtime=LONG_AGO)
    open_lab.chmod(0o700)
    with unprivileged(), watched(open_lab, settle=NEVER / 2) as seen:
        seen.problem("kfd may not read")
        os.seteuid(0)
        open_lab.chmod(0o755)
        seen.no_problem()
        seen.saw("a")


def test_part_of_it_may_not_be_read(open_lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kfd.daemon.watcher.watcher._RETRY_EVERY", 0.2)
    (open_lab / "secret").mkdir(mode=0o700)
    put(open_lab / "secret" / "a", mtime=LONG_AGO)
    put(open_lab / "b", mtime=LONG_AGO)
    with unprivileged(), watched(open_lab, settle=NEVER / 2) as seen:
        seen.problem("can't be read: 1, such as secret: Permission denied")
        seen.saw("b")
        os.seteuid(0)
        (open_lab / "secret").chmod(0o755)
        seen.saw("secret/a")
        seen.no_problem()
        put(open_lab / "secret" / "later")
        seen.saw("secret/later")


@contextmanager
def _share(directory: Path) -> Iterator[None]:
    if os.geteuid() != 0:
        unavailable("only root can mount")
    subprocess.run(["mount", "-t", "tmpfs", "share", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.mark.parametrize("watch", ["inotify", "poll"])
def test_unmounted_share_is_no_empty_directory(tmp_path: Path, watch: str) -> None:
    lab = tmp_path / "lab"
    (tmp_path / "lab").mkdir()
    put(lab / "beneath", mtime=LONG_AGO)
    with ExitStack() as running:
        with _share(lab):
            seen = running.enter_context(
                watched(lab, watch=watch, poll_every=0.1, settle=NEVER / 2)
            )
            put(lab / "a", mtime=LONG_AGO)
            seen.watcher.rescan()
            seen.saw("a")
        seen.problem("lab is not mounted")
        assert seen.health.problems()[0].fix == "mount it; sending resumes by itself"
        put(lab / "also beneath", mtime=LONG_AGO)
        running.enter_context(_share(lab))
        put(lab / "b", mtime=LONG_AGO)
        seen.saw("b")
        seen.no_problem()
        assert seen.sink.paths() == {b"a", b"b"}


def test_share_mounted_after_the_start(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    lab = tmp_path / "share" / "lab"
    with watched(lab, settle=NEVER / 2) as seen, _share(tmp_path / "share"):
        seen.problem("lab is missing")
        lab.mkdir()
        put(lab / "a", mtime=LONG_AGO)
        seen.saw("a")
        seen.no_problem()


def test_overflow_of_the_kernels_queue(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The reader is held up until the kernel has dropped events; nothing is lost by that."""
    caplog.set_level(logging.WARNING)
    lab = tmp_path / "lab"
    (lab / "sub").mkdir(parents=True)
    events = int((INOTIFY / "max_queued_events").read_text())
    with watched(lab, settle=NEVER / 2) as seen:
        with seen.watcher._signs._news:
            for number in range(events // 2 + 500):  # two events each: created and closed
                put(lab / f"{number}", mtime=LONG_AGO)
            put(lab / "sub" / "lost", mtime=LONG_AGO)
            (lab / "new").mkdir()
        seen.saw("sub/lost", *(f"{number}" for number in range(events // 2 + 500)))
        assert "changes came too fast" in caplog.text
        put(lab / "new" / "later")
        seen.saw("new/later")


def test_reader_that_died_is_replaced(tmp_path: Path) -> None:
    put(tmp_path / "first", mtime=LONG_AGO)
    with watched(tmp_path, settle=NEVER / 2) as seen:
        seen.saw("first")  # so that another scan than the first finds what wasn't heard
        watch = seen.watcher._watch
        assert watch is not None
        watch._reader.stopped_event.set()  # its next wake-up is its last
        put(tmp_path / "its last")
        eventually(lambda: not watch.alive)
        put(tmp_path / "unheard", mtime=LONG_AGO)
        seen.saw("unheard")
        put(tmp_path / "heard")
        seen.saw("heard")


@contextmanager
def _no_more(setting: Path) -> Iterator[None]:
    before = setting.read_text()
    holder = InotifyFD()  # the one instance that is allowed
    holder.start()
    setting.write_text("1")
    try:
        yield
    finally:
        setting.write_text(before)
        holder.stop()
        holder.join()


def _have_own(kind: str) -> Path:
    """A limit of this process alone; the file where it is set."""
    enter_own_namespace()
    setting = INOTIFY / f"max_user_{kind}"
    subprocess.run(["mount", "--bind", f"/proc/sys/user/max_inotify_{kind}", setting], check=True)
    return setting


def _poll_until_the_limit_is_raised(directory: Path, kind: str) -> None:
    with ExitStack() as running:
        with _no_more(_have_own(kind)):
            seen = running.enter_context(watched(directory, poll_every=0.1, settle=0.2))
            seen.problem("the limit of watches is reached")
            fix = seen.health.problems()[0].fix
            assert fix.startswith(f"sysctl -w fs.inotify.max_user_{kind}=")
            put(directory / "sub" / "b")
            seen.saw("sub/a", "sub/b")
        seen.no_problem()
        assert seen.directories() == {b"", b"sub"}
        assert all(one.inode for one in seen.sink.versions)  # so that watching again knows them


@pytest.mark.parametrize("kind", ["watches", "instances"])
def test_polls_while_the_kernel_refuses_watches(tmp_path: Path, kind: str) -> None:
    """In a process of its own, whose limits are nobody else's."""
    (tmp_path / "sub").mkdir()
    put(tmp_path / "sub" / "a", mtime=LONG_AGO)
    if in_child(lambda: _have_own(kind)):
        unavailable("limits of one's own can't be had here (no user namespaces)")
    assert in_child(lambda: _poll_until_the_limit_is_raised(tmp_path, kind)) == 0


def test_sink_that_hangs_does_not_stop_the_listening(tmp_path: Path) -> None:
    with watched(tmp_path, settle=NEVER) as seen:
        seen.sink.gate.clear()
        for number in range(5000):
            put(tmp_path / f"{number}")
        eventually(lambda: _waiting(seen.watcher) >= 4000)  # the rest was taken before it hung
        seen.sink.gate.set()
        seen.saw(*(f"{number}" for number in range(5000)))
        assert seen.sink.largest_batch <= 1000


def _waiting(watcher: Watcher) -> int:
    return len(watcher._signs._files)
