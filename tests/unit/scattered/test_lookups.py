"""No question to the ledger looks through all that was ever received."""

from __future__ import annotations

from kfd.daemon.ledger import scattered
from tests.parts import ROUTE, TOPIC_ID, Receiving


def test_questions_of_a_batch_use_an_index_to_the_end(parts: Receiving) -> None:
    reader = parts.ledger.reader()
    asked: list[str] = []
    reader.set_trace_callback(asked.append)
    scattered.ended(reader, ROUTE, TOPIC_ID, [bytes(16)])
    scattered.newest(reader, ROUTE, TOPIC_ID, "origin", [b"path"])
    scattered.tids(reader, ROUTE, TOPIC_ID, [bytes(16)])
    reader.set_trace_callback(None)
    plans = [row[3] for text in asked for row in reader.execute(f"EXPLAIN QUERY PLAN {text}")]
    assert len(asked) == 3
    assert len(plans) >= 5
    for plan in plans:
        assert plan.startswith("SEARCH"), plan
        assert any(column in plan for column in ("tid=?", "version=?", "path=?")), plan
