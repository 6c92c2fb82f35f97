"""By which route and under which name a file is sent that somebody asked to send."""

from __future__ import annotations

import os

from kfd import receipts
from kfd.daemon.operations import OfferedFile, SendRequest
from kfd.daemon.outgoing.uploads import Uploads
from kfd.daemon.topics.topics import TopicWatch
from kfd.errors import NotPermittedError, TransferFailedError, UsageError
from kfd.paths import BadPath, check_wire_path, escape
from kfd.wire import is_topic


class Routing:
    """Answers for single files; raises :class:`kfd.errors.KfdError` where there is no way.

    ``source`` is a file's path: where the daemon has found it, else what the caller says, which may
    be untrue, and gives no right.
    """

    def __init__(self, uploads: Uploads, topics: TopicWatch) -> None:
        self._uploads = uploads
        self._topics = topics

    def destination(self, source: bytes | None, request: SendRequest) -> tuple[str, str]:
        """Route (empty: none) and topic, as the request says or as the file's place suggests."""
        route = request.route or self._route_for(source, request.topic)
        if route is None:
            assert request.topic is not None
            return "", self._topic_without_route(request.topic, request.uid)
        configured = self._uploads.routes.get(route)
        if configured is None:
            raise UsageError(f"there is no upload route {route}", fix=self._choices())
        if request.topic is not None and request.topic != configured.topic:
            raise UsageError(
                f"route {route} sends to {configured.topic}, not to {request.topic}",
                fix="leave out --route or --topic",
            )
        if not configured.send and not privileged(request.uid):
            raise NotPermittedError(
                f"route {route} takes no files from kfdctl", fix="set send: true on it"
            )
        if request.meta and configured.format != "kfd":
            raise UsageError(
                f"route {route} sends in openmsistream's format, which has no place for --meta",
                fix="leave out --meta, or send by a route with format: kfd",
            )
        return route, configured.topic

    def check_topic(self, topic: str) -> None:
        """Raise where nothing can be sent to it."""
        error = self._topics.why_not_sendable(topic)
        if error is not None:
            raise TransferFailedError(str(error), fix=error.fix)

    def wire_path(self, file: OfferedFile, source: bytes | None, route: str) -> bytes:
        """The path in the topic."""
        path = file.name
        if path is None and route and source is not None:
            root = os.path.realpath(os.fsencode(self._uploads.routes[route].directory))
            if _below(source, root):
                path = os.path.relpath(source, root)
        path = path or file.fallback or os.path.basename(source or b"")
        if not path:
            raise UsageError("it has no name", fix="give --name")
        try:
            check_wire_path(path)
        except BadPath as error:
            raise UsageError(
                f"{escape(path)} can't be its name on the topic: {error}",
                fix="give another --name" if file.name is not None else "give --name",
            ) from error
        return path

    def _topic_without_route(self, topic: str, uid: int) -> str:
        if not is_topic(topic):
            raise UsageError(
                f"{escape(topic.encode())} can't be the name of a topic",
                fix="use 1 to 249 of the letters A-Z a-z, digits, and . _ -",
            )
        if topic.endswith(receipts.SUFFIX):
            raise UsageError(
                f"{topic} is for receipts about files on {topic.removesuffix(receipts.SUFFIX)}",
                fix="name the topic of files",
            )
        if not privileged(uid):
            raise NotPermittedError(
                f"only root may send to {topic}: no route with send: true has it",
                fix=f"add an upload route with topic: {topic}",
            )
        return topic

    def _route_for(self, source: bytes | None, topic: str | None) -> str | None:
        """The route for a file of which none is named; None for a topic without a route."""
        routes = self._uploads.routes
        if topic is not None:
            routes = {name: route for name, route in routes.items() if route.topic == topic}
            if not routes:
                return None
        holding = [
            name
            for name, route in routes.items()
            if source is not None and _below(source, os.fsencode(route.directory))
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


def _below(path: bytes, directory: bytes) -> bool:
    return path.startswith(os.path.realpath(directory).rstrip(b"/") + b"/")


def privileged(uid: int) -> bool:
    """Whether that is root or the daemon's user."""
    return uid in (0, os.geteuid())
