"""What is to be sent, or added: the named files, and those in named directories, opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kfd.control import File, name_fields
from kfd.errors import KfdError, UsageError
from kfd.paths import escape


@dataclass(frozen=True, slots=True)
class Picked:
    """A file that the user named, or one that was found in a directory so named."""

    path: bytes
    fallback: bytes | None = None  # from the directory's name on, if found in one
    standard_input: bool = False

    @property
    def shown(self) -> str:
        return escape(self.path)


@dataclass(frozen=True, slots=True)
class Purpose:
    """What files are picked for, and what else may be done about those that can't be."""

    done: str
    directory: str
    irregular: str


_FROM_A_PIPE = "kfdctl send - --name NAME < FILE"
SENDING = Purpose("sent", "--recursive sends what is in it", _FROM_A_PIPE)
ADDING = Purpose("added", "give the files in it", "write what it gives into a file, and add that")


def pick(paths: Sequence[str], *, recursive: bool, to_be: Purpose = SENDING) -> list[Picked]:
    """The files, in order. Raises :class:`UsageError` and :class:`KfdError`."""
    try:
        return [one for path in paths for one in _pick(os.fsencode(path), recursive, to_be)]
    except KfdError as error:
        if len(paths) == 1:
            raise
        raise type(error)(f"{error}; nothing was {to_be.done}", fix=error.fix) from None


def _pick(path: bytes, recursive: bool, to_be: Purpose) -> Iterable[Picked]:
    if path == b"-":
        return [Picked(path, standard_input=True)]
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise _unreadable(path, error) from None
    if not stat.S_ISDIR(mode):
        if not stat.S_ISREG(mode):
            raise _irregular(path, to_be.irregular)
        return [Picked(path)]
    if not recursive:
        raise UsageError(f"{escape(path)} is a directory", fix=to_be.directory)
    return _walk(path)


def _walk(directory: bytes) -> Iterator[Picked]:
    """Every regular file below; symbolic links are neither followed nor sent."""
    top = os.path.realpath(directory)
    for parent, directories, names in os.walk(top, onerror=_walk_failed):
        directories.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                yield Picked(path, os.path.relpath(path, os.path.dirname(top)))


def _walk_failed(error: OSError) -> None:
    raise _unreadable(os.fsencode(error.filename), error)


def open_file(picked: Picked) -> int:
    """A descriptor of a regular file, for reading. Raises :class:`KfdError`.

    A name given by the user may be a symbolic link; one that was found in a directory may not
    have become one.
    """
    follow = os.O_NOFOLLOW if picked.fallback is not None else 0
    try:  # O_NONBLOCK: a pipe must not keep us waiting for its writer
        descriptor = os.open(picked.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | follow)
    except OSError as error:
        raise _unreadable(picked.path, error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _irregular(picked.path, _FROM_A_PIPE)
    return descriptor


def described(picked: Picked, place: int, name: bytes | None) -> File:
    """What the daemon is told of a file whose descriptor is at ``place`` among those passed."""
    source, source_base64 = (
        name_fields(os.path.realpath(picked.path)) if not picked.standard_input else (None, None)
    )
    given, given_base64 = name_fields(name) if name is not None else (None, None)
    fallback, fallback_base64 = (
        name_fields(picked.fallback) if picked.fallback is not None else (None, None)
    )
    return File(
        descriptor=place,
        source=source,
        source_base64=source_base64,
        name=given,
        name_base64=given_base64,
        fallback=fallback,
        fallback_base64=fallback_base64,
    )


def _irregular(path: bytes, fix: str) -> UsageError:
    return UsageError(f"{escape(path)} is not a regular file", fix=fix)


def _unreadable(path: bytes, error: OSError) -> KfdError:
    return KfdError(
        f"{escape(path)}: {error.strerror}", fix="look at its name, its permissions, its disk"
    )
