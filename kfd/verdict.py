"""What the assembler says of a record: what is to be done with it."""

from __future__ import annotations

from dataclasses import dataclass

from kfd.transfer import OpenTransfer
from kfd.wire import Reason


@dataclass(frozen=True, slots=True)
class Append:
    """The value is the next chunk of the transfer, and of the last one the digest is right."""

    transfer: OpenTransfer
    first: bool
    complete: bool


@dataclass(frozen=True, slots=True)
class Drop:
    """The record is counted by this reason; nothing else has changed."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Skip:
    """The record is known, or is read again later: not counted, and nothing has changed."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """What it means shows when the transfer that is complete has been published."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The sender has given the transfer up."""

    transfer: OpenTransfer


@dataclass(frozen=True, slots=True)
class Failed:
    """Every chunk came and the file is not what was sent, or one can't come any more."""

    transfer: OpenTransfer
    reason: Reason


Verdict = Append | Drop | Skip | Undecided | Aborted | Failed
