"""Which files that people ask to send are taken, or why not; what is taken stays readable.

A file that the daemon itself can open, by its path, is read from there when its turn comes. Of any
other the spool gets a copy before it is accepted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from kfd.control import Sent, State
from kfd.daemon.admission.intake import Intake
from kfd.daemon.admission.offered import look, place_of, says_its_size
from kfd.daemon.admission.routing import Routing, privileged
from kfd.daemon.admission.spool import Spool
from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import Ledger, known, queries
from kfd.daemon.operations import OfferedFile, SendRequest
from kfd.daemon.outgoing.uploads import Uploads
from kfd.daemon.topics.topics import TopicWatch
from kfd.daemon.watcher.mounts import mount_of
from kfd.errors import KfdError, NoSuchTransferError, UsageError
from kfd.paths import escape


@dataclass(frozen=True, slots=True)
class Admitted:
    """A file that may be queued, and its place in the request."""

    place: int
    route: str
    topic: str
    version: FileVersion
    descriptor: int
    sized: bool  # it says how long it is
    to_copy: bool


class Admission:
    """Answers ``Send``. Called in the control server's connection threads."""

    def __init__(self, uploads: Uploads, topics: TopicWatch, ledger: Ledger, spool: Spool) -> None:
        self._uploads = uploads
        self._routing = Routing(uploads, topics)
        self._ledger = ledger
        self._spool = spool

    def send(self, request: SendRequest) -> list[Sent]:
        """Queue what can be; one answer for each file, in their order."""
        answers: dict[int, Sent] = {}
        admitted: list[Admitted] = []
        names: set[tuple[str, bytes]] = set()
        for place, file in enumerate(request.files):
            try:
                admitted.append(self._admit(place, file, request, names))
            except KfdError as error:
                answers[place] = _refusal(file, request, error)
        for group in _grouped(admitted):
            if request.dry_run:
                answers |= self._foresee(group, request)
            else:
                answers |= self._queue(group, request)
        return [answers[place] for place in range(len(request.files))]

    def _admit(
        self, place: int, file: OfferedFile, request: SendRequest, names: set[tuple[str, bytes]]
    ) -> Admitted:
        status = look(file.descriptor)
        found = place_of(file.source, status) if file.source is not None else None
        source = found or _tidy(file.source)
        route, topic = self._routing.destination(source, request)
        self._routing.check_topic(topic)
        path = self._routing.wire_path(file, source, route)
        if (topic, path) in names:
            raise UsageError(
                "another file of this request has the same name on the topic",
                fix="send it with --name, or both with --recursive from a directory above",
            )
        names.add((topic, path))
        sized = says_its_size(file.descriptor, status)
        if not sized and not privileged(request.uid):
            raise _depends_on_the_reader()
        # always with its inode: what is read later must be what the caller could read now
        version = FileVersion.of(path, source or b"", status, inodes=True)
        to_copy = not sized or found is None or _may_hang(found, status, request.uid)
        return Admitted(place, route, topic, version, file.descriptor, sized, to_copy)

    def _foresee(self, group: Sequence[Admitted], request: SendRequest) -> dict[int, Sent]:
        """What would become of these."""
        return {one.place: self._already(one, request) or _sent(one, None, None) for one in group}

    def _queue(self, group: Sequence[Admitted], request: SendRequest) -> dict[int, Sent]:
        """Queue files of one route and topic; killed before they are accepted, none is."""
        answers: dict[int, Sent] = {}
        ready: list[Admitted] = []
        with Intake(self._spool, request.uid, request.gone) as intake:
            for one in group:
                if not one.to_copy:
                    ready.append(one)
                elif (already := self._already(one, request)) is not None:
                    answers[one.place] = already
                else:
                    try:
                        ready.append(_copied(one, intake))
                    except KfdError as error:
                        file = request.files[one.place]
                        answers[one.place] = _refusal(file, request, error)
            intake.sync()
            return answers | self._accept(ready, request, intake)

    def _accept(
        self, ready: Sequence[Admitted], request: SendRequest, intake: Intake
    ) -> dict[int, Sent]:
        if not ready:
            return {}
        accepted = self._uploads.accept(
            *(ready[0].route, ready[0].topic, [one.version for one in ready]),
            meta=request.meta,
            uid=request.uid,
            again=request.again,
        )
        for one, answer in zip(ready, accepted, strict=True):
            if one.version.copy and not answer.already:
                intake.keep(one.version.copy)
        return {
            one.place: self._known(one, answer.tid)
            if answer.already
            else _sent(one, answer.tid, State.QUEUED)
            for one, answer in zip(ready, accepted, strict=True)
        }

    def _already(self, one: Admitted, request: SendRequest) -> Sent | None:
        """The answer for a file that was sent before as it is, and need not be again."""
        if request.again or not one.sized:
            return None
        tid = known.earlier(self._ledger.reader(), one.route, one.topic, one.version)
        return None if tid is None else self._known(one, tid)

    def _known(self, one: Admitted, tid: bytes | None) -> Sent:
        """The answer for a file that was taken before as it is, with what has become of it."""
        if tid is not None:
            with suppress(NoSuchTransferError):  # so long ago that it is forgotten
                last = queries.find(self._ledger.reader(), self._ledger.origin, tid.hex())
                return _sent(one, tid, last.state, already=True)
        return _sent(one, None, None, already=True)


def _depends_on_the_reader() -> KfdError:
    return KfdError(
        "it doesn't say how long it is, as files of /proc don't: what is in it may depend on who"
        " reads it",
        fix="cat it to kfdctl send - --name NAME",
    )


def _may_hang(path: bytes, status: os.stat_result, uid: int) -> bool:
    """Whether reading it may be up to a process of who asked: that must not hold up those who send.
    (What has a device of its own is no FUSE.)"""
    if privileged(uid) or os.major(status.st_dev) != 0:
        return False
    return mount_of(path).kind.startswith("fuse")


def _tidy(source: bytes | None) -> bytes | None:
    """A path that the daemon doesn't follow, or can't, without ``..`` and the like."""
    return None if source is None else b"/" + os.path.normpath(source).lstrip(b"/")


def _copied(one: Admitted, intake: Intake) -> Admitted:
    return replace(one, version=intake.copy(one.descriptor, one.version, sized=one.sized))


def _grouped(admitted: Iterable[Admitted]) -> list[list[Admitted]]:
    groups: dict[tuple[str, str], list[Admitted]] = {}
    for one in admitted:
        groups.setdefault((one.route, one.topic), []).append(one)
    return list(groups.values())


def _sent(one: Admitted, tid: bytes | None, state: State | None, *, already: bool = False) -> Sent:
    version = one.version
    return Sent(
        tid.hex() if tid else None,
        *(one.route, one.topic, escape(version.path), version.size),
        already=already,
        state=state,
    )


def _refusal(file: OfferedFile, request: SendRequest, error: KfdError) -> Sent:
    shown = escape(file.name or file.source or b"-")
    try:
        size = look(file.descriptor).st_size
    except KfdError:
        size = 0
    return Sent(
        None,
        *(request.route or "", request.topic or "", shown, size),
        refused=str(error),
        fix=error.fix,
        exit_code=int(error.exit_code),
    )
