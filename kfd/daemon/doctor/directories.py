"""Are the directories of the routes there, and do they allow what the routes do with them? Tried by
the daemon itself, as its user and within its sandbox."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kfd.config import Download, Upload
from kfd.config.values import KEEP
from kfd.control.examination import Check
from kfd.daemon.publishing.destination import Destination
from kfd.daemon.watcher.mounts import mount_of, mount_points_below
from kfd.daemon.writability import unwritable
from kfd.examination.checks import doubtful, well, wrong
from kfd.paths import escape
from kfd.unit import drop_in, restart, writable
from kfd.units import human_size

_PROBE = "user.kfd.probe"


def look_at_upload(route: Upload) -> Iterator[Check]:
    """Can it be read; can delivered files be deleted or moved, where that is wanted?"""
    name = f"uploads.{route.name}"
    path = os.path.realpath(route.directory)
    try:
        with os.scandir(path) as entries:
            next(entries, None)
    except OSError as error:
        yield _unreadable(name, route.directory, error)
        return
    mount = mount_of(os.fsencode(path))
    polled = route.watch == "poll" or (route.watch == "auto" and mount.network)
    how = f"polled every {route.poll_every:g} s ({mount.kind})" if polled else "watched"
    yield well(name, f"{route.directory} is {how}")
    if route.then != KEEP:
        places = [route.directory, *([route.then.directory] if route.then.directory else [])]
        closed = [place for place in places if unwritable(place) is not None]
        for place in closed:
            yield _cannot_write(f"{name}.then", place, closed)


def look_at_download(route: Download, destination: Destination) -> Iterator[Check]:
    """Can files be published there, durably, with marks, and is there room?"""
    name = f"downloads.{route.name}"
    if not destination.is_current():
        yield wrong(
            name, f"{route.directory} was replaced while kfd runs: files go to the old one",
            restart(),
        )  # fmt: skip
        return
    fault = unwritable(route.directory)
    if fault is not None:
        yield _cannot_write(name, route.directory, [route.directory])
        return
    yield from _probe(name, destination)
    yield _room(name, route, destination)
    inside = mount_points_below(os.fsencode(os.path.realpath(route.directory)))
    if inside:
        yield doubtful(
            name, f"another file system is mounted at {escape(inside[0])}: no file gets there",
            "give it a route of its own, or mount it elsewhere",
        )  # fmt: skip


def look_at_watches() -> Iterator[Check]:
    """How much of the kernel's limit of inotify watches this process uses."""
    limit = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text(encoding="ascii"))
    used = sum(_watches(info) for info in Path("/proc/self/fdinfo").iterdir())
    text = f"{used:,} of {limit:,} watches used by kfd"
    if used > 0.8 * limit:
        fix = f"sysctl -w fs.inotify.max_user_watches={2 * limit}, and in /etc/sysctl.d"
        yield doubtful("inotify", text, fix)
    else:
        yield well("inotify", text)


def _watches(info: Path) -> int:
    with suppress(OSError):  # closed meanwhile
        return sum(line.startswith("inotify ") for line in info.read_text("ascii").splitlines())
    return 0


def _probe(name: str, destination: Destination) -> Iterator[Check]:
    """Make a file without a name beside the partials, write into it, mark it."""
    try:
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
        probe = os.open(".", flags, 0o600, dir_fd=destination.private)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):  # this file system can't
            return
        fix = "free space, or mend the file system"
        yield wrong(name, f"no file can be made in {destination.directory}: {error.strerror}", fix)
        return
    try:
        os.write(probe, b"kfd")
        if destination.group >= 0:
            yield from _give(name, probe, destination.group)
        os.setxattr(probe, _PROBE, b"kfd")
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            yield doubtful(
                name, "its file system has no user xattrs: a restart reads open files again",
                "use ext4, xfs or btrfs; on tmpfs Linux 6.6 or later",
            )  # fmt: skip
        else:
            fix = "free space, or mend the file system"
            yield wrong(name, f"cannot write in {destination.directory}: {error.strerror}", fix)
    finally:
        os.close(probe)


def _give(name: str, probe: int, group: int) -> Iterator[Check]:
    try:
        os.fchown(probe, -1, group)
    except OSError as error:
        yield wrong(
            name, f"files can't be given to group {group}: {error.strerror}",
            drop_in(f"SystemCallFilter=@chown SupplementaryGroups={group}"),
        )  # fmt: skip


def _room(name: str, route: Download, destination: Destination) -> Check:
    free, total = destination.space()
    least = route.min_free.on(total)
    text = f"{route.directory} is ours, {human_size(free)} free"
    if free < least:
        fix = "free space, or lower min_free; files wait until they fit"
        return wrong(f"{name}.space", f"{text}, min_free is {human_size(least)}", fix)
    return well(name, text)


def _cannot_write(name: str, directory: Path, together: list[Path]) -> Check:
    fault = unwritable(directory)
    if fault is not None and fault.errno == errno.EROFS:
        return wrong(name, f"read-only for the service: {directory}", writable(together))
    if fault is not None and fault.errno == errno.ENOENT:
        return wrong(name, f"{directory} is missing", f"mkdir -p {directory}; chown kfd it")
    return wrong(name, f"kfd may not write in {directory}", f"chown kfd {directory}, or setfacl")


def _unreadable(name: str, directory: Path, error: OSError) -> Check:
    match error.errno:
        case errno.ENOENT:
            return wrong(name, f"{directory} is missing", "create or mount it")
        case errno.ENOTDIR:
            return wrong(name, f"{directory} is not a directory", "replace it")
        case errno.EACCES | errno.EPERM:
            return wrong(
                name, f"kfd may not read {directory}",
                "let kfd's user read and search it, and all above it (below /home"
                " ProtectHome=read-only, too): chmod, setfacl, or "
                + drop_in("SupplementaryGroups=GROUP"),
            )  # fmt: skip
    return wrong(name, f"{directory} cannot be read: {error.strerror}", "see to the disk or share")
