"""The files of a ``Send``: is each descriptor one that the caller may read, of a regular file?"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from kfd.control import MAX_META, File, Sent, name_bytes
from kfd.daemon.operations import OfferedFile
from kfd.errors import KfdError, NotPermittedError
from kfd.marshal import MismatchError
from kfd.paths import escape

_DISK = "look at the disk or the share that it is on"
_PATH_MAX = 4096  # bytes; what is longer can't be opened, and takes long to look at
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}


def checked_meta(meta: Mapping[str, str] | None) -> Mapping[str, str]:
    """The metadata of a request, or :class:`MismatchError` where it is more than a record takes."""
    meta = meta or {}
    texts = [text for item in meta.items() for text in item]
    if any("\0" in text for text in texts):
        raise MismatchError("meta", "holds a NUL")
    if sum(len(text.encode()) for text in texts) > MAX_META:
        raise MismatchError("meta", f"has more than {MAX_META} bytes")
    return meta


def offered_files(
    files: Sequence[File], descriptors: Sequence[int], opened: ExitStack, *, owner: bool
) -> list[OfferedFile | Sent]:
    """Each file ready to be sent, or why it cannot be.

    What is opened here, for an ``owner`` who only named it, is closed by ``opened``. Raises
    :class:`MismatchError` for a request that makes no sense, :class:`NotPermittedError`.
    """
    if not files:
        raise MismatchError("files", "is empty")
    _check_indices(files, len(descriptors))
    if not owner and any(file.descriptor is None for file in files):
        raise NotPermittedError(
            "only root and the daemon's user may name a file without opening it",
            fix="pass a descriptor of it, as kfdctl does",
        )
    return [_offered(at, file, descriptors, opened) for at, file in enumerate(files)]


def place_of(source: bytes, offered: os.stat_result) -> bytes | None:
    """Where the daemon can open the very file that was offered, without links; None where it can't.

    ``source`` is where it is said to be. Only the kernel follows it, who does no more than 40
    links, and of another file that is there nothing is told: the caller might not see it.
    """
    try:
        with _descriptor(source, os.O_PATH) as found:
            if not os.path.samestat(os.fstat(found), offered):
                return None
            place = os.readlink(f"/proc/self/fd/{found}".encode())
        with _descriptor(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as opened:
            return place if os.path.samestat(os.fstat(opened), offered) else None
    except OSError:
        return None


@contextmanager
def _descriptor(path: bytes, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def look(descriptor: int) -> os.stat_result:
    """What is known of an offered file. Raises :class:`KfdError`."""
    try:
        return os.fstat(descriptor)
    except OSError as error:
        raise KfdError(f"it cannot be looked at: {error.strerror}", fix=_DISK) from None


def says_its_size(descriptor: int, offered: os.stat_result) -> bool:
    """Whether a file has as many bytes as it says; those of ``/proc`` and ``/sys`` haven't.

    Raises :class:`KfdError` where it can't be read.
    """
    size = offered.st_size
    try:
        longer = bool(os.pread(descriptor, 1, size))
        shorter = size > 0 and not os.pread(descriptor, 1, size - 1)
        grew_or_shrank = os.fstat(descriptor).st_size != size  # that is for whoever reads it
    except OSError as error:
        raise KfdError(f"it cannot be read: {error.strerror}", fix=_DISK) from None
    return grew_or_shrank or not (longer or shorter)


def _check_indices(files: Sequence[File], count: int) -> None:
    used = set()
    for at, file in enumerate(files):
        if file.descriptor is None:
            continue
        if not 0 <= file.descriptor < count or file.descriptor in used:
            raise MismatchError(f"files[{at}].descriptor", f"one of {count}, once, is expected")
        used.add(file.descriptor)


def _offered(
    at: int, file: File, descriptors: Sequence[int], opened: ExitStack
) -> OfferedFile | Sent:
    source = _name(f"files[{at}].source", file.source, file.source_base64)
    name = _name(f"files[{at}].name", file.name, file.name_base64)
    fallback = _name(f"files[{at}].fallback", file.fallback, file.fallback_base64)
    if source is not None and not source.startswith(b"/"):
        raise MismatchError(f"files[{at}].source", "an absolute path is expected")
    try:
        if source is not None and len(source) > _PATH_MAX:
            raise KfdError("its path is too long to be opened", fix="give it a shorter one")
        if file.descriptor is not None:
            descriptor = descriptors[file.descriptor]
        else:
            descriptor = _opened(at, source, opened)
        _check_descriptor(descriptor)
    except KfdError as error:
        shown = escape(name or source or b"")
        code = int(error.exit_code)
        return Sent(None, "", "", shown, 0, refused=error.what, fix=error.fix, exit_code=code)
    return OfferedFile(descriptor, source, name, fallback)


def _name(field: str, text: str | None, encoded: str | None) -> bytes | None:
    try:
        return name_bytes(text, encoded)
    except ValueError as error:
        raise MismatchError(field, str(error)) from None


def _opened(at: int, source: bytes | None, opened: ExitStack) -> int:
    if source is None:
        raise MismatchError(f"files[{at}]", "a descriptor or a source is expected")
    try:  # O_NONBLOCK: opening a pipe must not wait for a writer
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KfdError(
            f"the daemon cannot open it: {error.strerror}", fix="send it as a user who can read it"
        ) from None
    opened.callback(os.close, descriptor)
    return descriptor


def _check_descriptor(descriptor: int) -> None:
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if flags & os.O_PATH or flags & os.O_ACCMODE == os.O_WRONLY:
        raise KfdError("its descriptor is not open for reading", fix="open it with O_RDONLY")
    mode = look(descriptor).st_mode
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise KfdError(f"it is {kind}, not a regular file", fix="cat it to kfdctl send -")
