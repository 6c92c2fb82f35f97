"""What is answered to who sends files: what became of each, and what to exit with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kfd.control import Sent, State
from kfd.daemon.admission.admission import Admission
from kfd.daemon.ledger import Ledger, accepting, outgoing
from kfd.daemon.ledger.accepting import Offer
from kfd.daemon.operations import OfferedFile, SendRequest
from kfd.errors import KfdError
from tests.unit.ledger.outgoing_files import end

NEVER = float("inf")
STRANGER = 12345


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[OfferedFile]:
    """A file, opened."""
    path = tmp_path / "run42.trc"
    path.write_bytes(b"v")
    descriptor = os.open(path, os.O_RDONLY)
    yield OfferedFile(descriptor, os.fsencode(path), None)
    os.close(descriptor)


@pytest.fixture
def topics() -> SimpleNamespace:
    """Every topic can be sent to."""
    return SimpleNamespace(why_not_sendable=lambda _: None)


@pytest.fixture
def admission(ledger: Ledger, topics: Any, tmp_path: Path) -> Admission:
    """Where route ``closed`` is not for everybody."""

    def accept(route: str, topic: str, versions: Any, **options: Any) -> Any:
        offer = Offer(route, topic, versions, 4096, **options)
        return ledger.write(lambda db: accepting.accept(db, offer))

    route = SimpleNamespace(topic="t", directory=tmp_path / "other", send=False, format="kfd")
    uploads: Any = SimpleNamespace(routes={"closed": route}, accept=accept)
    spool: Any = None  # nothing is copied
    return Admission(uploads, topics, ledger, spool)


def sent(admission: Admission, file: OfferedFile, route: str = "closed", uid: int = 0) -> Sent:
    (answer,) = admission.send(
        SendRequest(
            [file], route, None, {}, again=False, dry_run=False, uid=uid, gone=lambda: False
        )
    )
    return answer


def test_what_was_taken_before_says_what_became_of_it(
    admission: Admission, ledger: Ledger, trace: OfferedFile
) -> None:
    first = sent(admission, trace)
    assert (first.already, first.state, first.exit_code) == (False, State.QUEUED, 0)
    assert first.tid is not None
    again = sent(admission, trace)
    assert (again.tid, again.already, again.state) == (first.tid, True, State.QUEUED)
    end(ledger, bytes.fromhex(first.tid), "failed")
    assert sent(admission, trace).state is State.FAILED


def test_a_transfer_that_is_forgotten_is_not_named(
    admission: Admission, ledger: Ledger, trace: OfferedFile
) -> None:
    """Nobody can wait for it."""
    first = sent(admission, trace)
    assert first.tid is not None
    end(ledger, bytes.fromhex(first.tid), "delivered")
    assert ledger.write(lambda db: outgoing.prune(db, NEVER, 10)) == 1
    again = sent(admission, trace)
    assert (again.tid, again.already, again.state) == (None, True, None)


def test_refusals_say_what_to_exit_with(
    admission: Admission, topics: Any, trace: OfferedFile
) -> None:
    assert sent(admission, trace, "nope").exit_code == 2
    assert sent(admission, trace, uid=STRANGER).exit_code == 4
    topics.why_not_sendable = lambda _: KfdError("t takes smaller records", fix="chunk_size: 1KiB")
    refused = sent(admission, trace)
    assert (refused.exit_code, refused.refused) == (10, "t takes smaller records")
    assert refused.fix == "chunk_size: 1KiB"
