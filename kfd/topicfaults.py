"""What keeps a topic from being used: the rules, for the daemon and for ``kfdctl doctor``."""

from __future__ import annotations

from kfd.errors import KfdError
from kfd.kafka import RECORD_OVERHEAD, Topic


def create_command(name: str, servers: str) -> str:
    """How to make one that is missing."""
    return f"kafka-topics.sh --create --topic {name} --bootstrap-server {servers}"


def compaction(topic: Topic) -> KfdError | None:
    """A compacted topic keeps one record of a key, and a file has one key."""
    if not topic.compacted:
        return None
    return KfdError(
        f"topic {topic.name} is compacted: it would lose chunks",
        fix=f"set cleanup.policy=delete on {topic.name}, or use another topic",
    )


def small_records(topic: Topic, chunk_size: int) -> KfdError | None:
    """Whether it takes smaller records than chunks of this many bytes make."""
    if topic.max_record is None or chunk_size + RECORD_OVERHEAD <= topic.max_record:
        return None
    room = (topic.max_record - RECORD_OVERHEAD) // 1024  # KiB
    advice = f"chunk_size: {1 << (room.bit_length() - 1)}KiB, or " if room > 0 else ""
    return KfdError(
        f"{topic.name} takes {topic.max_record} bytes a record,"
        f" chunk_size {chunk_size} does not fit",
        fix=f"{advice}a larger max.message.bytes on the topic",
    )


def short_retention(topic: Topic, least: float) -> KfdError | None:
    """Whether it forgets records sooner than after ``least`` seconds."""
    if topic.retention is None or topic.retention >= least:
        return None
    return KfdError(
        f"topic {topic.name} keeps records for {topic.retention:.0f} s; at least {least:.0f} s are"
        " wise, or a receiver that was away loses files",
        fix="raise its retention.ms",
    )
