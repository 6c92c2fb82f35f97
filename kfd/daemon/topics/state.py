"""What a look at a topic showed, and what keeps it from being used."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from kfd.errors import KfdError
from kfd.kafka import Topic
from kfd.topicfaults import compaction, short_retention, small_records

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """A topic as it was seen last, and what keeps it from being read, or from being sent to."""

    topic: Topic
    reading_fault: KfdError | None
    sending_fault: KfdError | None

    def differs(self, old: Seen | None) -> bool:
        """Whether somebody has to hear of it, who knows the old state."""
        if old is None or old.topic != self.topic:
            return True
        return (old.sending_fault is None) is not (self.sending_fault is None)


def judge(topic: Topic, chunk_size: int) -> Seen:
    """What keeps a topic that exists from being used, if anything does.

    ``chunk_size``: of those who send to it, in bytes; 0 if nobody does.
    """
    fault = compaction(topic)
    return Seen(topic, fault, fault or small_records(topic, chunk_size))


def warn_of_retention(topic: Topic, least_retention: float) -> None:
    """How long a topic keeps records is for its administrator to say. In seconds."""
    fault = short_retention(topic, least_retention)
    if fault is not None:
        log.warning("%s (fix: %s)", fault, fault.fix)
