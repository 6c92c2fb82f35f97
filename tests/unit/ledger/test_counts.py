"""The counts are those of the rows, whatever happens."""

from __future__ import annotations

import sqlite3
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kfd.daemon.ledger import (
    Ledger,
    accepting,
    delivery,
    endings,
    forgetting,
    outgoing,
    publications,
    queries,
    resending,
)
from kfd.daemon.ledger.conclusions import Rules
from kfd.daemon.ledger.confirmations import Heard
from kfd.daemon.ledger.endings import Ending
from kfd.daemon.ledger.outgoing import Claim
from kfd.daemon.ledger.publications import Received
from kfd.daemon.ledger.schema import MIGRATIONS
from kfd.receipts import Outcome, Receipt
from tests.parts import TOPIC_ID, Sent, version
from tests.unit.ledger.incoming_files import received
from tests.unit.ledger.outgoing_files import CHUNK_SIZE, COLUMNS, accept_one, end, offer


class Counting(RuleBasedStateMachine):
    """Whatever happens to transfers, in any order, the tally is what counting them gives."""

    def __init__(self) -> None:
        super().__init__()
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        for step in MIGRATIONS:
            self.db.executescript(step)
        identity = {"origin": b"lab2", "instance": bytes(16)}
        self.db.executemany("INSERT INTO identity VALUES (?, ?)", identity.items())
        self.pruned: Counter[tuple[object, ...]] = Counter()
        self.pruned_size: Counter[tuple[object, ...]] = Counter()
        self.intended: list[Received] = []
        self.size = 0

    def teardown(self) -> None:
        self.db.close()

    paths = st.sampled_from([b"a", b"b", b"c"])
    sizes = st.sampled_from([0, 1, CHUNK_SIZE, CHUNK_SIZE + 1, 10 * CHUNK_SIZE])
    routes = st.sampled_from(["lab", ""])

    def rows(self, state: str) -> list[outgoing.Outgoing]:
        found = self.db.execute(
            f"SELECT {COLUMNS} FROM outgoing WHERE state = ?", (state,)
        ).fetchall()
        return [outgoing._outgoing(one) for one in found]

    def some(self, data: st.DataObject, ones: list[object]) -> list[object]:
        return data.draw(st.lists(st.sampled_from(ones), unique_by=id)) if ones else []

    @rule(path=paths, size=sizes, route=routes, again=st.booleans(), skip=st.integers(0, 9))
    def accept(self, path: bytes, size: int, route: str, again: bool, skip: int) -> None:
        one = offer(version(path, size=size), route=route, again=again, skip_older_ns=skip)
        accepting.accept(self.db, one)

    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        chosen = self.some(data, self.rows("queued"))  # type: ignore[arg-type]
        claims = [
            Claim(one.id, one.topic, one.path, TOPIC_ID, 0, CHUNK_SIZE, moved=True)
            for one in chosen
        ]
        outgoing.claim(self.db, claims)

    @rule(data=st.data(), state=st.sampled_from(["in_kafka", "failed", "cancelled"]))
    def end(self, data: st.DataObject, state: str) -> None:
        chosen = self.some(data, [*self.rows("queued"), *self.rows("sending")])
        again = data.draw(st.booleans())
        size = data.draw(st.none() | self.sizes)
        batch = [
            Ending(
                one, state, 1, forget=again, digest=bytes(32),
                successor=None if size is None else version(one.path, size=size),
            )
            for one in chosen
        ]  # fmt: skip
        endings.end(self.db, batch)

    @rule(data=st.data())
    def start_over(self, data: st.DataObject) -> None:
        for one in self.some(data, [*self.rows("sending"), *self.rows("cancelled")])[:1]:
            endings.start_over(self.db, one, "why")

    @rule(path=paths, size=sizes, route=routes)
    def send(self, path: bytes, size: int, route: str) -> None:
        accepting.accept(self.db, offer(version(path, size=size), route=route, again=True))
        batch = [Ending(one, "in_kafka", 1, digest=bytes(32)) for one in self.rows("queued")]
        endings.end(self.db, batch)

    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def hear(self, data: st.DataObject, outcome: Outcome) -> None:
        for one in [*self.rows("in_kafka")[-2:], *self.rows("sending")[-1:]]:
            generation = data.draw(st.sampled_from([None, one.generation, one.generation + 1]))
            receipt = Receipt(one.tid, outcome, bytes(32), generation)
            heard = [Heard("lab2", bytes(16), receipt, ours=True)]
            rules = Rules({"lab": data.draw(st.integers(1, 2))}, frozenset({("lab", "t")}))
            delivery.hear(self.db, "t", heard, {}, [], rules)
            delivery.hear_early(self.db, rules, 10)

    @rule()
    def resend(self) -> None:
        self.db.execute("UPDATE outgoing SET resend_at = 1 WHERE resend_at IS NOT NULL")
        resending.due(self.db, 10)

    @rule()
    def topic_is_made_again(self) -> None:
        resending.from_old_topic(self.db, "t", "another", 10)

    @rule(data=st.data(), size=sizes)
    def postpone(self, data: st.DataObject, size: int) -> None:
        for one in self.some(data, self.rows("queued"))[:1]:  # type: ignore[arg-type]
            newer = version(one.path, source=one.source, size=size)
            endings.postpone(self.db, one, newer, CHUNK_SIZE, 0.0)

    @rule()
    def prune_outgoing(self) -> None:
        self.remember("upload", "outgoing", "ended_at IS NOT NULL")
        outgoing.prune(self.db, 2**40, 1000)

    @rule(path=paths, size=sizes)
    def intend(self, path: bytes, size: int) -> None:
        one = received(Sent(bytes(size), path))
        publications.intend(self.db, [one])
        self.intended.append(one)

    def take(self, data: st.DataObject) -> list[Received]:
        chosen = self.some(data, self.intended)  # type: ignore[arg-type]
        self.intended = [one for one in self.intended if one not in chosen]
        return chosen  # type: ignore[return-value]

    @rule(data=st.data())
    def conclude(self, data: st.DataObject) -> None:
        publications.conclude(self.db, self.take(data), self.take(data))

    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        publications.withdraw(self.db, self.take(data))

    @rule(data=st.data(), state=st.sampled_from(["quarantined", "superseded"]))
    def reject(self, data: st.DataObject, state: str) -> None:
        fresh = [received(Sent(b"never intended"))] if data.draw(st.booleans()) else []
        publications.reject(self.db, [(one, state, "why") for one in self.take(data) + fresh])

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        done = {one.tid for one in self.some(data, self.intended)}  # type: ignore[arg-type]
        intents = publications.intents(self.db, "archive")
        published = [one for one in intents if one.tid in done]
        void = [one for one in intents if one.tid not in done]
        publications.settle(self.db, "archive", published, void)
        self.intended = []

    @rule()
    def prune_incoming(self) -> None:
        self.db.execute("DELETE FROM quarantine")  # what is there is kept
        self.remember("download", "incoming", "ended_at IS NOT NULL")
        forgetting.prune(self.db, TOPIC_ID, 0, 2**40, 2**40, 1000)

    def remember(self, direction: str, table: str, condition: str) -> None:
        for key, count, size in self.counted(direction, table, condition):
            self.pruned[key] += count
            self.pruned_size[key] += size

    def counted(
        self, direction: str, table: str, condition: str
    ) -> list[tuple[tuple[object, ...], int, int]]:
        rows = self.db.execute(
            f"SELECT route, topic, state, count(*), sum(size) FROM {table}"
            f" WHERE {condition} GROUP BY 1, 2, 3"
        ).fetchall()
        return [((direction, *key), count, size) for *key, count, size in rows]

    @invariant()
    def tally_is_what_counting_gives(self) -> None:
        counts, sizes = self.pruned.copy(), self.pruned_size.copy()
        tables = (("upload", "outgoing", "1"), ("download", "incoming", "ended_at IS NOT NULL"))
        for direction, table, condition in tables:
            for key, count, size in self.counted(direction, table, condition):
                counts[key] += count
                sizes[key] += size
        tallies = [one for one in queries.tallies(self.db) if one.count or one.size]
        keyed = {(one.direction, one.route, one.topic, one.state): one for one in tallies}
        assert {key: one.count for key, one in keyed.items()} == dict(counts)
        assert {key: one.size for key, one in keyed.items() if one.size} == dict(+sizes)

    @invariant()
    def generations_only_grow(self) -> None:
        rows = self.db.execute(
            "SELECT count(*) FROM outgoing JOIN outgoing_path USING (topic, path)"
            " WHERE outgoing.generation > outgoing_path.generation"
        )
        assert rows.fetchone() == (0,)


TestCounting = Counting.TestCase


TestCounting.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def test_tally_names_the_last_one(ledger: Ledger) -> None:
    for name in (b"a", b"b"):
        end(ledger, accept_one(ledger, version(name)), "cancelled")
    (one,) = [one for one in queries.tallies(ledger.reader()) if one.state == "cancelled"]
    assert (one.count, one.size, one.last) == (2, 6, b"b")
    assert one.last_at is not None
