"""What is told of a file that somebody adds by hand: it is read once, for its digest."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from blake3 import blake3

from kfd.daemon.ledger.cataloguing import Added
from kfd.daemon.operations import AddRequest, OfferedFile
from kfd.errors import KfdError
from kfd.paths import escape

_PIECE = 1024 * 1024  # bytes


def look_at(file: OfferedFile, request: AddRequest, origin: str) -> Added:
    """Size, time and digest of a file. Raises :class:`KfdError` where it can't be read, changes
    meanwhile, or nobody waits any longer."""
    path = file.name or file.fallback or os.path.basename(file.source or b"")
    if not path:
        raise KfdError("it has no name", fix="pass its source, or a name")
    try:
        before = os.fstat(file.descriptor)
        digest = _digest(file.descriptor, lambda: _go_on(request))
        after = os.fstat(file.descriptor)
    except OSError as error:
        raise KfdError(
            f"it cannot be read: {error.strerror}", fix="look at the disk or the share it is on"
        ) from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise KfdError("it changed while it was read", fix="add it when it is complete")
    meta = json.dumps(dict(sorted(request.meta.items())))
    source = file.source or b""
    said = (origin, escape(path), escape(source), after.st_size, after.st_mtime_ns, meta)
    return Added(
        tid=_tid(said, digest),
        path=path,
        source=source,
        size=after.st_size,
        mtime_ns=after.st_mtime_ns,
        digest=digest,
        meta=meta,
        uid=request.uid,
    )


def _tid(said: object, digest: bytes) -> bytes:
    """The same for all that a row says: who adds a file twice gets one row."""
    return blake3(json.dumps(["kfd added file", said]).encode() + digest).digest(length=16)


def _digest(descriptor: int, go_on: Callable[[], None]) -> bytes:
    hasher = blake3()
    at = 0
    while data := os.pread(descriptor, _PIECE, at):
        hasher.update(data)
        at += len(data)
        go_on()
    return hasher.digest()


def _go_on(request: AddRequest) -> None:
    request.rest()
    if request.gone():
        raise KfdError("nobody waits for it any longer", fix="add the files again")
