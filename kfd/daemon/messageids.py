"""What a line of the log is about, for those who look for lines by more than their text.

A call that logs a change of state says so beside its text::

    log.info("published %s", name, extra=about(Message.PUBLISHED, route=..., transfers=[...]))

One line stands for a whole batch, and names all its transfers. In the journal these become fields
(``journal.py``); elsewhere only the text is seen, so it has to make sense alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from kfd.paths import escape

_ATTRIBUTE = "kfd"


class Message(Enum):
    """Kinds of messages by their ``MESSAGE_ID``, which never changes its meaning.

    docs/operations.md has the table for people.
    """

    STARTED = "2131f3dc30dd4a398f6492904e5f99d8"
    STOPPED = "d882cd1d02e74f218d023b1ff75aa5f3"
    REFUSED_TO_START = "af14f49a5fd54076b01e0cb029d0bf3c"
    RELOADED = "c1149164a18f450aa188b795c22106a5"
    RELOAD_REFUSED = "d7495d7b39e948ed87a57c5780490003"
    STAGE_DIED = "dd666ac6c0cc4aca9c2362e0504b111e"
    HUNG = "629f0fd17f1840c6b784004d526dbe90"
    DEGRADED = "27dd467253584e1eb93089b5c1a26ba3"
    RECOVERED = "7c6d84e023d34f2ea0744d4a6a570c5b"
    QUEUED = "7bd58c08636b404f8f55a4800f16d4e4"
    IN_KAFKA = "c287246357e9469f931a9b6f92670903"
    DELIVERED = "44b760bd1afd4571b7242d56fe1c1033"
    SENT_AGAIN = "4335ba65bf48456ebc5c649afc803042"
    FAILED = "5e33de8793224bd6b1e9fabcb39a16ac"
    CANCELLED = "07265beefdb84277baa32af2455c012e"
    PUBLISHED = "177ca867a80643f3a052822579c773db"
    QUARANTINED = "d43e4266b0a84f129d1295a5573e8a10"
    EXPIRED = "3860509a96ab4eb58e46e706f8842fac"
    SUPERSEDED = "6687324c12a2414e9df5944394899827"


@dataclass(frozen=True, slots=True)
class About:
    """What a line is about. ``fix`` is what to do; it becomes a part of the text."""

    message: Message | None = None
    route: str = ""
    transfers: Sequence[tuple[bytes, bytes]] = ()  # tid, path as it is on the topic
    fix: str = ""


_NOTHING = About()


def about(
    message: Message | None = None,
    *,
    route: str = "",
    transfers: Sequence[tuple[bytes, bytes]] = (),
    fix: str = "",
) -> dict[str, About]:
    """For ``extra=`` of a call that logs."""
    return {_ATTRIBUTE: About(message, route, transfers, fix)}


def log_batch(
    log: logging.Logger, message: Message, verb: str, files: Iterable[tuple[str, bytes, bytes]]
) -> None:
    """Log one line a route for files (route, tid, path) that came to a state together."""
    by_route: dict[str, list[tuple[bytes, bytes]]] = {}
    for route, tid, path in files:
        by_route.setdefault(route, []).append((tid, path))
    for route, transfers in by_route.items():
        text = f"{verb} {first_of([path for _, path in transfers])}"
        told = about(message, route=route, transfers=transfers)
        log.info("%s", f"{route}: {text}" if route else text, extra=told)


def first_of(paths: Sequence[bytes]) -> str:
    """What stands for a batch in a line: its first file, and how many more."""
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return escape(paths[0]) + others


def about_of(record: logging.LogRecord) -> About:
    """What a line is about; of a call that doesn't say, nothing."""
    found = getattr(record, _ATTRIBUTE, _NOTHING)
    assert isinstance(found, About)
    return found
