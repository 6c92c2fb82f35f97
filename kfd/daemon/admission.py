"""Which files that people ask to send are taken: by which route, under which name, or why not.

A file is taken only if the daemon itself can open, by its path, the very file that the caller
passed: what is accepted must be readable later, when its turn comes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from kfd.control import Sent
from kfd.daemon.fileversion import FileVersion
from kfd.daemon.ledger import Ledger, known
from kfd.daemon.operations import OfferedFile, SendRequest
from kfd.daemon.topics import TopicWatch
from kfd.daemon.uploads import Uploads
from kfd.errors import KfdError, NotPermittedError, UsageError
from kfd.paths import BadPath, check_wire_path, escape
from kfd.wire import is_topic


@dataclass(frozen=True, slots=True)
class Admitted:
    """A file that may be queued, and its place in the request."""

    place: int
    route: str
    topic: str
    version: FileVersion


class Admission:
    """Answers ``Send``. Called in the control server's connection threads."""

    def __init__(self, uploads: Uploads, topics: TopicWatch, ledger: Ledger) -> None:
        self._uploads = uploads
        self._topics = topics
        self._ledger = ledger

    def send(self, request: SendRequest) -> list[Sent]:
        """Queue what can be; one answer for each file, in their order."""
        answers: dict[int, Sent] = {}
        admitted: list[Admitted] = []
        names: set[tuple[str, bytes]] = set()
        for place, file in enumerate(request.files):
            try:
                one = self._admit(place, file, request, names)
            except KfdError as error:
                answers[place] = _refusal(file, request, error)
            else:
                admitted.append(one)
        for (route, topic), group in _grouped(admitted).items():
            for one, sent in zip(group, self._queue(route, topic, group, request), strict=True):
                answers[one.place] = sent
        return [answers[place] for place in range(len(request.files))]

    def _queue(
        self, route: str, topic: str, group: list[Admitted], request: SendRequest
    ) -> list[Sent]:
        versions = [one.version for one in group]
        if request.dry_run:
            reader = self._ledger.reader()
            tids = [known.earlier(reader, route, topic, version) for version in versions]
            pairs = [(tid, tid is not None and not request.again) for tid in tids]
            return [
                _sent(one, tid if already else None, already=already)
                for one, (tid, already) in zip(group, pairs, strict=True)
            ]
        accepted = self._uploads.accept(
            route, topic, versions, meta=request.meta, uid=request.uid, again=request.again
        )
        return [
            _sent(one, answer.tid, already=answer.already)
            for one, answer in zip(group, accepted, strict=True)
        ]

    def _admit(
        self, place: int, file: OfferedFile, request: SendRequest, names: set[tuple[str, bytes]]
    ) -> Admitted:
        source = _readable_source(file)
        route, topic = self._destination(source, request)
        self._check_topic(topic)
        path = self._wire_path(file, source, route)
        if (topic, path) in names:
            raise UsageError(
                "another file of this request has the same name on the topic",
                fix="send it with --name, or both with --recursive from a directory above",
            )
        names.add((topic, path))
        # always with its inode: what is read later must be what the caller could read now
        version = FileVersion.of(path, source, os.fstat(file.descriptor), inodes=True)
        return Admitted(place, route, topic, version)

    def _destination(self, source: bytes, request: SendRequest) -> tuple[str, str]:
        """Route (empty: none) and topic, as the request says or as the file's place suggests."""
        route = request.route or self._route_for(source, request.topic)
        if route is None:
            assert request.topic is not None
            if not is_topic(request.topic):
                raise UsageError(
                    f"{escape(request.topic.encode())} can't be the name of a topic",
                    fix="use 1 to 249 of the letters A-Z a-z, digits, and . _ -",
                )
            if not _privileged(request.uid):
                raise NotPermittedError(
                    f"only root may send to {request.topic}: no route with send: true has it",
                    fix=f"add an upload route with topic: {request.topic}",
                )
            return "", request.topic
        configured = self._uploads.routes.get(route)
        if configured is None:
            raise UsageError(f"there is no upload route {route}", fix=self._choices())
        if request.topic not in (None, configured.topic):
            raise UsageError(
                f"route {route} sends to {configured.topic}, not to {request.topic}",
                fix="leave out --route or --topic",
            )
        if not configured.send and not _privileged(request.uid):
            raise NotPermittedError(
                f"route {route} takes no files from kfdctl", fix="set send: true on it"
            )
        return route, configured.topic

    def _route_for(self, source: bytes, topic: str | None) -> str | None:
        """The route for a file of which none is named; None for a topic without a route."""
        routes = self._uploads.routes
        if topic is not None:
            routes = {name: route for name, route in routes.items() if route.topic == topic}
            if not routes:
                return None
        holding = [
            name for name, route in routes.items() if _below(source, os.fsencode(route.directory))
        ]
        candidates = holding or list(routes)
        if len(candidates) == 1:
            return candidates[0]
        if holding:  # nested routes: the innermost one
            return max(holding, key=lambda name: len(routes[name].directory.parts))
        raise UsageError(
            "which route?" if candidates else "there is no upload route", fix=self._choices()
        )

    def _choices(self) -> str:
        names = ", ".join(self._uploads.routes)
        return f"--route with one of: {names}" if names else "give --topic, or configure a route"

    def _check_topic(self, topic: str) -> None:
        error = self._topics.why_not_sendable(topic)
        if error is not None:
            raise error

    def _wire_path(self, file: OfferedFile, source: bytes, route: str) -> bytes:
        path = file.name
        if path is None and route:
            root = os.path.realpath(os.fsencode(self._uploads.routes[route].directory))
            if _below(source, root):
                path = os.path.relpath(source, root)
        path = path or file.fallback or os.path.basename(source)
        try:
            check_wire_path(path)
        except BadPath as error:
            raise UsageError(
                f"{escape(path)} can't be its name on the topic: {error}", fix="give --name"
            ) from error
        return path


def _readable_source(file: OfferedFile) -> bytes:
    """The path by which the daemon can open the very file that was passed."""
    if file.source is None:
        raise UsageError("the file has no path", fix="save it to a file first")
    source = os.path.realpath(file.source)
    mine = os.fstat(file.descriptor)
    try:
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NotPermittedError(
            f"kfd itself can't read it: {error.strerror}",
            fix="give kfd's user read permission on it, or copy it into a route's directory",
        ) from error
    try:
        theirs = os.fstat(fd)
    finally:
        os.close(fd)
    if (mine.st_dev, mine.st_ino) != (theirs.st_dev, theirs.st_ino):
        raise UsageError(
            f"for kfd, {escape(source)} is another file",
            fix="copy it into a route's directory",
        )
    return source


def _below(path: bytes, directory: bytes) -> bool:
    return path.startswith(os.path.realpath(directory).rstrip(b"/") + b"/")


def _privileged(uid: int) -> bool:
    return uid in (0, os.geteuid())


def _grouped(admitted: Iterable[Admitted]) -> dict[tuple[str, str], list[Admitted]]:
    groups: dict[tuple[str, str], list[Admitted]] = {}
    for one in admitted:
        groups.setdefault((one.route, one.topic), []).append(one)
    return groups


def _sent(one: Admitted, tid: bytes | None, *, already: bool) -> Sent:
    version = one.version
    return Sent(
        tid.hex() if tid else None,
        *(one.route, one.topic, escape(version.path), version.size),
        already=already,
    )


def _refusal(file: OfferedFile, request: SendRequest, error: KfdError) -> Sent:
    shown = escape(file.name or file.source or b"-")
    return Sent(
        None,
        *(request.route or "", request.topic or "", shown, os.fstat(file.descriptor).st_size),
        refused=str(error),
        fix=error.fix,
    )
