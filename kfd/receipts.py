"""Receipts, version 1: what receivers tell senders about transfers (docs/wire-format.md).

Receipts about the files of a topic go to a topic of their own. A record holds several, of one
receiver for one sender, so that small files don't cost a record each. The decoder trusts nothing;
what a receipt is worth is for the sender's ledger to decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from kfd.wire import (
    DIGEST_SIZE,
    INSTANCE_SIZE,
    RECEIPTS_SUFFIX,
    TID_SIZE,
    BadRecord,
    Reason,
    is_origin,
    is_topic,
    pack,
    unpack,
)

VERSION: Final = 1
SUFFIX: Final = RECEIPTS_SUFFIX
MAX_RECORD: Final = 128 * 1024  # bytes of a record's value
MAX_RECEIPTS: Final = 256  # in one record
MAX_REASON: Final = 200  # bytes of UTF-8

_INT_LIMIT: Final = 2**63


class Outcome(StrEnum):
    """What became of a transfer at a receiver. Only the first is good news."""

    PUBLISHED = "published"
    SUPERSEDED = "superseded"  # a version of that generation, or a later one, is there
    QUARANTINED = "quarantined"  # it can't be taken as it is
    EXPIRED = "expired"  # its last records didn't come
    LOST = "lost"  # its first records were gone when it was read
    REFUSED = "refused"  # there was no room; another time there may be


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one transfer.

    ``generation`` is that of the version that is there: of a published transfer its own, of one
    that is superseded that of the other; None where it isn't known.
    """

    tid: bytes
    outcome: Outcome
    digest: bytes | None = None  # BLAKE3 of the file, if all of it was read
    generation: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Receipts:
    """One record: receipts of one receiver. ``instance`` is that of the receiver's ledger."""

    receiver: str
    instance: bytes
    receipts: Sequence[Receipt]


def topic_of(topic: str) -> str | None:
    """The topic for receipts about the files on ``topic``; None if its name would be too long."""
    name = topic + SUFFIX
    return name if is_topic(name) else None


def key_of(sender: bytes | None) -> bytes | None:
    """The key of a record for this sender (an instance); none where it isn't known."""
    return None if sender is None else sender.hex().encode("ascii")


def fit_reason(text: str) -> str:
    """A reason as a receipt may hold it: on one line, and cut."""
    if not text:
        return ""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown.encode(errors="replace")[:MAX_REASON].decode(errors="ignore")


def encode(receiver: str, instance: bytes, receipts: Sequence[Receipt]) -> Iterator[bytes]:
    """The values of as many records as are needed for ``receipts``."""
    for start in range(0, len(receipts), MAX_RECEIPTS):
        some = receipts[start : start + MAX_RECEIPTS]
        rows = [[r.tid, r.outcome, r.digest, r.generation, r.reason] for r in some]
        yield pack([VERSION, receiver, instance, rows])


def decode(value: bytes | None) -> Receipts:
    """The receipts in a record's value.

    Raises :class:`BadRecord` (foreign, unsupported or malformed), and nothing else, whatever it is.
    """
    if value is None or len(value) > MAX_RECORD:
        raise BadRecord(Reason.FOREIGN, "no value, or one too long")
    try:
        array = unpack(value, longest=MAX_RECEIPTS, text=MAX_REASON)
    except (ValueError, RecursionError) as error:
        raise BadRecord(Reason.FOREIGN, type(error).__name__) from None
    if type(array) is not list or not array or type(array[0]) is not int:
        raise BadRecord(Reason.FOREIGN, "not an array that begins with a version")
    if array[0] != VERSION:
        raise BadRecord(Reason.UNSUPPORTED, "another version of the format")
    _require([type(item) for item in array[1:]] == [str, bytes, list], "not [1, …]")
    _, receiver, instance, rows = array
    _require(is_origin(receiver), "the receiver's name is none")
    _require(len(instance) == INSTANCE_SIZE, "instance is not 16 bytes")
    _require(bool(rows), "no receipts")
    return Receipts(receiver, instance, [_receipt(row) for row in rows])


def _receipt(row: Any) -> Receipt:
    _require(type(row) is list and len(row) == 5, "a receipt is not an array of 5")
    tid, outcome, digest, generation, reason = row
    _require(type(tid) is bytes and len(tid) == TID_SIZE, "tid is not 16 bytes")
    _require(type(outcome) is str and type(reason) is str, "outcome or reason is not text")
    _require(reason.isprintable(), "reason is not one line")
    is_digest = digest is None or (type(digest) is bytes and len(digest) == DIGEST_SIZE)
    _require(is_digest, "digest is not 32 bytes")
    is_number = generation is None or (type(generation) is int and 0 <= generation < _INT_LIMIT)
    _require(is_number, "generation is out of range")
    try:
        return Receipt(tid, Outcome(outcome), digest, generation, reason)
    except ValueError:
        raise BadRecord(Reason.UNSUPPORTED, "an outcome of a later version") from None


def _require(rule: bool, detail: str) -> None:
    if not rule:
        raise BadRecord(Reason.MALFORMED, detail)
