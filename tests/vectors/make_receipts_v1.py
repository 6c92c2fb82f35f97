"""Writes receipts-v1.json: receipts put together by hand, byte by byte, from docs/wire-format.md.

It imports neither kfd nor msgpack on purpose.
"""

from __future__ import annotations

import json
import sys

from make_wire_v1 import DIGEST_TEN, INSTANCE, NIL, TID, TRUE, array, binary, sint, text, uint

GENERATION = 1_720_000_000_000_000
OTHER = bytes.fromhex("0190a1b2c3d5") + b"9876543210"


def receipt(
    *,
    tid: bytes = binary(TID),
    outcome: bytes = text("published"),
    digest: bytes = binary(DIGEST_TEN),
    generation: bytes = uint(GENERATION),
    reason: bytes = text(""),
) -> bytes:
    return array(tid, outcome, digest, generation, reason)


def record(
    *receipts: bytes,
    version: bytes = uint(1),
    receiver: bytes = text("lab2"),
    instance: bytes = binary(INSTANCE),
) -> bytes:
    return array(version, receiver, instance, array(*receipts))


def meaning(**changes: object) -> dict[str, object]:
    return {
        "tid": TID.hex(),
        "outcome": "published",
        "digest": DIGEST_TEN.hex(),
        "generation": GENERATION,
        "reason": "",
    } | changes


LOST = {
    "outcome": text("lost"),
    "digest": NIL,
    "generation": NIL,
    "reason": text("head-lost"),
}
MEANS_LOST = {"outcome": "lost", "digest": None, "generation": None, "reason": "head-lost"}

ACCEPTED = {
    "published": (record(receipt()), [meaning()]),
    "two of one receiver": (
        record(receipt(), receipt(tid=binary(OTHER), **LOST)),
        [meaning(), meaning(tid=OTHER.hex(), **MEANS_LOST)],
    ),
    **{
        outcome: (
            record(receipt(outcome=text(outcome), reason=text("because"))),
            [meaning(outcome=outcome, reason="because")],
        )
        for outcome in ("superseded", "quarantined", "expired", "refused")
    },
    "a generation in more bytes than it needs": (
        record(receipt(generation=sint(7))),
        [meaning(generation=7)],
    ),
    "the longest reason": (record(receipt(reason=text("é" * 100))), [meaning(reason="é" * 100)]),
}

REFUSED = {
    "nothing": (b"", "foreign"),
    "text": (b"run,42,ok\n", "foreign"),
    "a map": (b"\x80", "foreign"),
    "an empty array": (array(), "foreign"),
    "cut short": (record(receipt())[:-1], "foreign"),
    "followed by something": (record(receipt()) + NIL, "foreign"),
    "an array that claims four thousand million items": (b"\xdd\xff\xff\xff\xff", "foreign"),
    "a map within": (array(uint(1), text("lab2"), binary(INSTANCE), b"\x81\x01\x02"), "foreign"),
    "text that is not UTF-8": (record(receipt(reason=text(b"\xff"))), "foreign"),
    "a reason that is too long": (record(receipt(reason=text("x" * 201))), "foreign"),
    "an ext type": (record(b"\xd4\x05\x00"), "foreign"),
    "a version that is a boolean": (record(receipt(), version=TRUE), "foreign"),
    "version 2": (record(receipt(), version=uint(2)), "unsupported"),
    "an outcome of later": (record(receipt(outcome=text("sealed"))), "unsupported"),
    "three items": (array(uint(1), text("lab2"), binary(INSTANCE)), "malformed"),
    "no receipts": (record(), "malformed"),
    "a receiver with a space": (record(receipt(), receiver=text("lab 2")), "malformed"),
    "a receiver in bytes": (record(receipt(), receiver=binary(b"lab2")), "malformed"),
    "a short instance": (record(receipt(), instance=binary(b"x" * 15)), "malformed"),
    "a receipt that is a number": (record(uint(5)), "malformed"),
    "a receipt of four items": (record(array(NIL, NIL, NIL, NIL)), "malformed"),
    "a long tid": (record(receipt(tid=binary(TID + b"x"))), "malformed"),
    "a tid in text": (record(receipt(tid=text("0123456789abcdef"))), "malformed"),
    "a short digest": (record(receipt(digest=binary(DIGEST_TEN[:31]))), "malformed"),
    "a negative generation": (record(receipt(generation=sint(-1))), "malformed"),
    "a generation of 64 bits": (record(receipt(generation=uint(2**63))), "malformed"),
    "a generation that is a boolean": (record(receipt(generation=TRUE)), "malformed"),
    "a reason of two lines": (record(receipt(reason=text("a\nb"))), "malformed"),
    "an escape in the reason": (record(receipt(reason=text("\x1b[2J"))), "malformed"),
    "no reason": (record(receipt(reason=NIL)), "malformed"),
}


def main() -> None:
    vectors = {
        "receiver": "lab2",
        "instance": INSTANCE.hex(),
        "accepted": [
            {"name": name, "value": value.hex(), "receipts": receipts}
            for name, (value, receipts) in ACCEPTED.items()
        ],
        "refused": [
            {"name": name, "value": value.hex(), "reason": reason}
            for name, (value, reason) in REFUSED.items()
        ],
    }
    json.dump(vectors, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
