"""What a commit says besides its offset: how far the partition was read, and what is open there.

The offset alone is enough for nothing to be lost: it is that of the first record of the oldest
open transfer. This text beside it saves repetition, and is used only where all of it is valid. It
has at most 4096 characters, what brokers take by default; a longer one is left out.

``1 TOPIC-ID OFFSET POSITION +DELTA:CHUNKS:BEHIND:TAIL ...``: each DELTA leads from one first offset
to the next (the first one from OFFSET), BEHIND from ``Open.rest`` to POSITION; TAIL is in hex.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

MAX_TEXT: Final = 4096  # characters

_NUMBER = "(?:0|[1-9][0-9]{0,18})"
_TEXT: Final = re.compile(
    rf"1 ([A-Za-z0-9+/=_-]{{1,64}}) ({_NUMBER}) ({_NUMBER})"
    rf"((?: \+{_NUMBER}:{_NUMBER}:{_NUMBER}:[0-9a-f]{{8}})*)"
)


class Open(NamedTuple):
    """An open transfer, as the host that committed had it on its disk."""

    tail: bytes  # the last four of its tid
    chunks: int  # that were durable, by the partial's mark
    rest: int  # offset from which the others are to be read


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partition of a topic was read by the one who committed ``offset``.

    Every transfer that began before ``position`` has ended, but for the open ones, which are known
    by the offsets of their first records, ascending.
    """

    topic_id: str
    offset: int
    position: int
    open: Mapping[int, Open]

    def encode(self) -> str:
        """The text for the commit; empty where it would be too long."""
        parts = [f"1 {self.topic_id} {self.offset} {self.position}"]
        before = self.offset
        for first, (tail, chunks, rest) in self.open.items():
            parts.append(f"+{first - before}:{chunks}:{self.position - rest}:{tail.hex()}")
            before = first
        text = " ".join(parts)
        return text if len(text) <= MAX_TEXT else ""

    def start(self, held: Mapping[tuple[int, bytes], int]) -> int:
        """Where a host goes on that holds so many chunks of transfers, by first offset and tail.

        What isn't held, or less of it, is read again from its first record.
        """
        needed = (
            one.rest if held.get((first, one.tail), 0) >= one.chunks > 0 else first
            for first, one in self.open.items()
        )
        return min(needed, default=self.position)


def decode(text: str | None) -> Progress | None:
    """What a commit says, None unless every bit of it is valid.

    Whether it is of this topic, belongs to the committed offset and ends within the topic is for
    the caller to compare.
    """
    if text is None or len(text) > MAX_TEXT:
        return None
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    offset, position = int(found[2]), int(found[3])
    opened: dict[int, Open] = {}
    first = offset
    for item in found[4].split():
        *numbers, tail = item[1:].split(":")
        delta, chunks, behind = (int(number) for number in numbers)
        if opened and delta == 0:
            return None
        first += delta
        opened[first] = Open(bytes.fromhex(tail), chunks, position - behind)
        if not first <= position - behind:
            return None
    if offset > position or (opened and first >= position):
        return None
    return Progress(found[1], offset, position, opened)
