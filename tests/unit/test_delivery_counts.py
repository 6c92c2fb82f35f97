"""Whatever is sent, refused, confirmed, dropped and sent again, in any order: the counts that
``status`` shows are what counting the transfers gives."""

from __future__ import annotations

import sqlite3
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kfd.daemon.ledger import accepting, delivery, endings, outgoing, queries, resending
from kfd.daemon.ledger.accepting import Offer
from kfd.daemon.ledger.conclusions import Rules
from kfd.daemon.ledger.confirmations import Heard
from kfd.daemon.ledger.endings import Ending
from kfd.daemon.ledger.outgoing import Claim, Outgoing
from kfd.daemon.ledger.resending import Gap
from kfd.daemon.ledger.schema import MIGRATIONS
from kfd.receipts import Outcome, Receipt
from tests.parts import version

DIGEST, OTHER = bytes(32), bytes(range(32))
RECEIVERS = [bytes([number]) * 16 for number in range(3)]
ROUTES = {"lab": 1, "pair": 2}  # with the receivers that they want
TOPICS = ("t", "u")
RULES = Rules(ROUTES, frozenset({("lab", "t")}))


class Sending(RuleBasedStateMachine):
    """The ledger of a sender."""

    def __init__(self) -> None:
        super().__init__()
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        for step in MIGRATIONS:
            self.db.executescript(step)
        self.offset = 0
        self.topic_id = "m"

    def teardown(self) -> None:
        self.db.close()

    def rows(self, *states: str) -> list[Outgoing]:
        found = self.db.execute("SELECT id, state FROM outgoing ORDER BY id").fetchall()
        return outgoing.by_id(self.db, [number for number, state in found if state in states])

    @rule(
        path=st.sampled_from([b"a", b"b"]), size=st.integers(0, 3), again=st.booleans(),
        route=st.sampled_from([*ROUTES, ""]), topic=st.sampled_from(TOPICS),
        uid=st.none() | st.just(1000),
    )  # fmt: skip
    def accept(
        self, path: bytes, size: int, again: bool, route: str, topic: str, uid: int | None
    ) -> None:
        one = version(path, size=size, inode=size)
        accepting.accept(self.db, Offer(route, topic, [one], 1000, {}, uid, again))

    @rule()
    def claim(self) -> None:
        claims = [
            Claim(one.id, one.topic, one.path, self.topic_id, one.id % 2, 1000, moved=True)
            for one in self.rows("queued")
        ]
        outgoing.claim(self.db, claims)

    @rule(state=st.sampled_from(["in_kafka", "in_kafka", "failed"]), whole=st.booleans())
    def end(self, state: str, whole: bool) -> None:
        for one in self.rows("sending")[:2]:
            self.offset += 1
            digest = DIGEST if whole else None
            endings.end(self.db, [Ending(one, state, 1, self.offset, digest=digest)])

    @rule(topic=st.sampled_from(TOPICS), data=st.data())
    def hear(self, topic: str, data: st.DataObject) -> None:
        """A batch, in which a transfer may occur several times."""
        known = [*self.rows("sending", "in_kafka", "failed", "delivered", "cancelled")]
        if known:
            some = data.draw(st.lists(st.sampled_from(known), max_size=6))
            heard = [self.receipt(one, data) for one in some]
            delivery.hear(self.db, topic, heard, {"foreign": 1}, [], RULES)

    def receipt(self, row: Outgoing, data: st.DataObject) -> Heard:
        receipt = Receipt(
            row.tid,
            data.draw(st.sampled_from([Outcome.PUBLISHED, *Outcome])),
            data.draw(st.sampled_from([DIGEST, DIGEST, OTHER, None])),
            data.draw(st.sampled_from([None, row.generation, row.generation + 1, 0, 1 << 62])),
        )
        return Heard("lab2", data.draw(st.sampled_from(RECEIVERS)), receipt, ours=True)

    @rule()
    def hear_early(self) -> None:
        delivery.hear_early(self.db, RULES, 10)

    @rule()
    def resend(self) -> None:
        self.db.execute("UPDATE outgoing SET resend_at = 1 WHERE resend_at IS NOT NULL")
        resending.due(self.db, 10)

    @rule(topic=st.sampled_from(TOPICS), partition=st.integers(0, 1))
    def drop(self, topic: str, partition: int) -> None:
        gap = Gap(topic, self.topic_id, partition, self.offset)
        found = resending.dropped(self.db, gap, -1, 10)
        resending.send_soon(self.db, [number for number, _ in found])

    @rule(topic=st.sampled_from(TOPICS), topic_id=st.sampled_from("amz"))
    def make_topic_again(self, topic: str, topic_id: str) -> None:
        self.topic_id = topic_id
        resending.from_old_topic(self.db, topic, topic_id, 10)

    @invariant()
    def tally_is_what_counting_gives(self) -> None:
        rows = self.db.execute("SELECT route, topic, state, size FROM outgoing").fetchall()
        counted = Counter(tuple(key) for *key, _ in rows)
        sizes: Counter[tuple[str, ...]] = Counter()
        for *key, size in rows:
            sizes[tuple(key)] += size
        told = queries.tallies(self.db)
        keyed = {(one.route, one.topic, one.state): one for one in told if one.count or one.size}
        assert {key: one.count for key, one in keyed.items()} == dict(counted)
        assert {key: one.size for key, one in keyed.items()} == dict(sizes)

    @invariant()
    def nothing_is_left_that_nothing_needs(self) -> None:
        """What is sent again isn't twice under way, and what is delivered isn't put off."""
        (put_off,) = self.db.execute(
            "SELECT count(*) FROM outgoing WHERE resend_at IS NOT NULL AND state <> 'in_kafka'"
        ).fetchone()
        (disposed,) = self.db.execute(
            "SELECT count(*) FROM disposal d JOIN outgoing o USING (id) WHERE o.uid IS NOT NULL"
            " OR (o.state, o.route, o.topic) <> ('delivered', 'lab', 't')"
        ).fetchone()
        assert (put_off, disposed) == (0, 0)

    @invariant()
    def only_with_enough_receivers_it_is_delivered(self) -> None:
        """Each receiver counts once: below what the route wants none is kept for one that is."""
        found = self.db.execute(
            "SELECT o.state, count(*) FROM confirmation c JOIN outgoing o USING (tid)"
            " WHERE NOT c.early GROUP BY o.tid"
        ).fetchall()
        assert all(count < 2 and state in ("in_kafka", "failed", "cancelled")
                   for state, count in found)  # fmt: skip


TestSending = Sending.TestCase
TestSending.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
