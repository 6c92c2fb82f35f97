"""Tells routes, on the health board, what is wrong with the topics that they use."""

from __future__ import annotations

from collections.abc import Mapping

from kfd.daemon.health import Health
from kfd.daemon.topics.needs import Wanted
from kfd.daemon.topics.state import Seen
from kfd.errors import KfdError
from kfd.topicfaults import create_command


class TopicReports:
    """Used in one thread. What was said to a route is withdrawn once it uses the topic no more."""

    def __init__(self, health: Health, servers: str) -> None:
        """``servers``: where a topic that is missing may be made."""
        self._health = health
        self._servers = servers
        self._said: set[tuple[str, str]] = set()  # (route, key) of what has been said

    def withdraw(self, wanted: Mapping[str, Wanted]) -> None:
        """Take back what was said to routes that no longer use the topics in question."""
        used = {(route, key_of(name)) for name, one in wanted.items() for route in one.routes}
        used |= {
            (route, receipts_key_of(name))
            for name, one in wanted.items()
            for route in one.correspondents
        }
        for route, key in self._said - used:
            self._health.clear(route, key)
        self._said &= used

    def seen(self, seen: Seen, wanted: Wanted) -> None:
        """Let the routes of a topic that exists be well, or say what is wrong."""
        name = seen.topic.name
        faults = ((wanted.senders, seen.sending_fault), (wanted.readers, seen.reading_fault))
        for routes, fault in faults:
            for route in routes:
                if fault is None:
                    self._health.clear(route, key_of(name))
                else:
                    self._report(route, name, fault)
        if seen.reading_fault is None:
            for route in wanted.correspondents:
                self._health.clear(route, receipts_key_of(name))
        else:
            self._note(name, wanted, seen.reading_fault)

    def missing(self, name: str, wanted: Wanted, why: str = "") -> None:
        """A topic doesn't exist; ``why`` it could not be made."""
        command = create_command(name, self._servers)
        fault = KfdError(
            f"topic {name} does not exist" + (f" and could not be made: {why}" if why else ""),
            fix=command if why else f"create_topics: true, or {command}",
        )
        self.unusable(name, wanted, fault)

    def unusable(self, name: str, wanted: Wanted, fault: KfdError) -> None:
        """Neither those who send to a topic nor those who read it can use it."""
        for route in wanted.routes:
            self._report(route, name, fault)
        self._note(name, wanted, fault)

    def _report(self, route: str, name: str, fault: KfdError) -> None:
        self._said.add((route, key_of(name)))
        self._health.report(route, key_of(name), str(fault), fault.fix)

    def _note(self, name: str, wanted: Wanted, fault: KfdError) -> None:
        """Without receipts files move all the same, but no sender calls them delivered."""
        for route in wanted.correspondents:
            self._said.add((route, receipts_key_of(name)))
            self._health.note(
                route, receipts_key_of(name), f"no receipts: {fault}",
                f"files are moved, but not called delivered without it; {fault.fix}",
            )  # fmt: skip


def key_of(name: str) -> str:
    """Under which problems of a topic are reported."""
    return f"topic {name}"


def receipts_key_of(name: str) -> str:
    """Likewise, about one for receipts."""
    return f"receipts {name}"
