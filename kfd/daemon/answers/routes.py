"""Answers to those who pause routes, let them go on, or have them scanned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kfd.daemon.context import Context
from kfd.daemon.incoming.downloads import Downloads
from kfd.daemon.outgoing.uploads import Uploads
from kfd.errors import UsageError

_ROUTELESS = ""  # what is sent without a route


class RouteAnswers:
    """A route is known by its name, in both directions."""

    def __init__(self, context: Context, uploads: Uploads, downloads: Downloads) -> None:
        self._pauses = context.pauses
        self._uploads = uploads
        self._downloads = downloads

    def pause(self, route: str | None) -> list[str]:
        names = self._named(route, [*self._uploads.routes, *self._downloads.routes])
        self._pauses.pause(names if route is not None else [*names, _ROUTELESS])
        return names

    def in_flight(self, routes: Sequence[str]) -> int:
        reading = [
            one
            for name, route in self._downloads.routes.items()
            if name in routes
            for one in route.consumers
            if not one.idle
        ]
        return self._uploads.in_flight(routes) + len(reading)

    def resume(self, route: str | None) -> list[str]:
        configured = [*self._uploads.routes, *self._downloads.routes]
        names = self._named(route, [*configured, *self._pauses.names()])
        going_on = [name for name in names if name in self._pauses]
        self._pauses.resume(going_on)
        self._uploads.resumed()
        return [name for name in going_on if name != _ROUTELESS]

    def rescan(self, route: str | None) -> list[str]:
        watchers = self._uploads.watchers
        names = self._named(route, watchers)
        for name in names:
            watchers[name].rescan()
        return names

    def _named(self, route: str | None, known: Iterable[str]) -> list[str]:
        """The routes that are meant."""
        names = list(dict.fromkeys(known))
        if route is None:
            return names
        if route in names:
            return [route]
        if route in self._downloads.routes:
            raise UsageError(
                f"{route} is a download: it has no directory that is scanned",
                fix="name an upload route",
            )
        choices = ", ".join(name for name in names if name)
        raise UsageError(
            f"there is no route {route}", fix=f"one of: {choices}" if choices else "configure one"
        )
