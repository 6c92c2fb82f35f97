"""The outbox of the catalogue: written with what it tells of, as long as somebody is to know."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import pytest

from kfd.daemon.ledger import Ledger, catalogue, cataloguing, forgetting, outgoing, publications
from kfd.daemon.ledger.catalogue import Key, Kind
from kfd.daemon.ledger.cataloguing import Added
from tests.parts import TOPIC_ID, Sent, version
from tests.unit.ledger.incoming_files import publish, received, with_meta
from tests.unit.ledger.outgoing_files import accept_one, end


def configure(ledger: Ledger, **sinks: str) -> None:
    ledger.write(lambda db: catalogue.configure(db, sinks))


def number(ledger: Ledger, name: str = "lab") -> int:
    found = catalogue.sink_id(ledger.reader(), name)
    assert found is not None
    return found


def waiting(ledger: Ledger, name: str = "lab", limit: int = 100) -> list[bytes]:
    entries, void = catalogue.waiting(ledger.reader(), number(ledger, name), limit)
    assert void == []
    return [one.path for one in entries]


def write_all(ledger: Ledger, name: str = "lab", *refused: bytes) -> None:
    sink = number(ledger, name)
    entries, _ = catalogue.waiting(ledger.reader(), sink, 100)
    reasons = [(one.key, "too long") for one in entries if one.path in refused]
    keys = [one.key for one in entries]
    ledger.write(lambda db: catalogue.written(db, sink, keys, reasons))


def tell_again(ledger: Ledger, limit: int = 2) -> int:
    """All that the sink is to be told once more; in how many steps."""
    steps = 0
    while cataloguing.is_told_again(ledger.reader(), number(ledger)):
        ledger.write(lambda db: cataloguing.go_on_again(db, number(ledger), limit))
        steps += 1
    return steps


def refused(ledger: Ledger) -> set[bytes]:
    return {one.path for one in cataloguing.refused(ledger.reader(), None, 100)}


def added(name: bytes = b"a.csv") -> Added:
    return Added(name * 3 + bytes(1), name, b"/srv/" + name, 5, 7, bytes(32), "{}", 0)


def test_without_a_sink_nothing_is_written(ledger: Ledger) -> None:
    publish(ledger, received(Sent(b"a", b"a")))
    assert ledger.reader().execute("SELECT count(*) FROM catalogue_row").fetchone() == (0,)


def test_each_sink_is_told_of_what_is_published(ledger: Ledger) -> None:
    configure(ledger, lab="false", other="in-kafka")
    publish(ledger, received(Sent(b"a", b"a")), received(Sent(b"b", b"b")))
    assert waiting(ledger) == waiting(ledger, "other") == [b"a", b"b"]
    write_all(ledger)
    assert (waiting(ledger), waiting(ledger, "other")) == ([], [b"a", b"b"])
    told = {one.name: (one.waiting, one.written) for one in catalogue.standings(ledger.reader())}
    assert told == {"lab": (0, 2), "other": (2, 0)}


def test_what_is_rejected_is_not_told(ledger: Ledger) -> None:
    configure(ledger, lab="false")
    one = received(Sent(b"a", b"a"))
    ledger.write(lambda db: publications.reject(db, [(one, "quarantined", "why")]))
    assert waiting(ledger) == []


def test_a_rename_that_a_kill_interrupted_is_told_when_it_is_settled(ledger: Ledger) -> None:
    configure(ledger, lab="false")
    one = received(Sent(b"a", b"a"))
    ledger.write(lambda db: publications.intend(db, [one]))
    assert waiting(ledger) == []
    (intent,) = publications.intents(ledger.reader(), "archive")
    ledger.write(lambda db: publications.settle(db, "archive", [intent], []))
    assert waiting(ledger) == [b"a"]


@pytest.mark.parametrize(("sent", "told"), [("false", []), ("in-kafka", [b"a"]), ("delivered", [])])
def test_what_is_sent_is_told_as_configured(ledger: Ledger, sent: str, told: list[bytes]) -> None:
    configure(ledger, lab=sent)
    end(ledger, accept_one(ledger, version(b"a")), "in_kafka")
    end(ledger, accept_one(ledger, version(b"b")), "failed")
    assert waiting(ledger) == told


def test_what_a_sink_does_not_know_yet_is_not_forgotten(ledger: Ledger) -> None:
    configure(ledger, lab="in-kafka")
    publish(ledger, received(Sent(b"a", b"a")))
    end(ledger, accept_one(ledger, version(b"b")), "in_kafka")
    later = time.time() + 10

    def prune() -> tuple[int, int]:
        gone = ledger.write(lambda db: forgetting.prune(db, TOPIC_ID, 0, 10**6, later, 100))
        return gone, ledger.write(lambda db: outgoing.prune(db, later, 100))

    assert prune() == (0, 0)
    write_all(ledger)
    assert prune() == (1, 1)


def test_rows_of_files_that_are_no_longer_known_are_void(ledger: Ledger) -> None:
    configure(ledger, lab="false")
    publish(ledger, received(Sent(b"a", b"a")))
    ledger.write(lambda db: db.execute("DELETE FROM incoming"))
    assert catalogue.waiting(ledger.reader(), number(ledger), 9) == ([], [Key(Kind.PUBLISHED, 1)])


def test_what_is_refused_is_shown_and_tried_again(ledger: Ledger) -> None:
    configure(ledger, lab="false")
    publish(ledger, received(Sent(b"a", b"a")), received(Sent(b"b", b"b")))
    write_all(ledger, "lab", b"b")
    assert waiting(ledger) == []
    (refused,) = cataloguing.refused(ledger.reader(), None, 9)
    assert (refused.sink, refused.path, refused.reason) == ("lab", b"b", "too long")
    assert cataloguing.refused(ledger.reader(), "other", 9) == []
    ledger.write(lambda db: cataloguing.retry(db, None))
    assert not catalogue.standings(ledger.reader())[0].again  # not everything
    tell_again(ledger)
    assert (waiting(ledger), cataloguing.refused(ledger.reader(), None, 9)) == ([b"b"], [])


def test_what_a_sink_that_is_gone_was_to_be_told_is_dropped(ledger: Ledger) -> None:
    configure(ledger, lab="false")
    publish(ledger, received(Sent(b"a", b"a")))
    configure(ledger)
    configure(ledger, lab="false")
    assert waiting(ledger) == []
    assert ledger.write(lambda db: catalogue.prune(db, 0.0, 100)) == 1
    assert ledger.reader().execute("SELECT count(*) FROM catalogue_row").fetchone() == (0,)


def test_a_new_sink_can_be_told_of_everything_in_steps(ledger: Ledger) -> None:
    publish(ledger, *(received(Sent(b"%d" % n, b"%d" % n)) for n in range(5)))
    end(ledger, accept_one(ledger, version(b"sent")), "in_kafka")
    configure(ledger, lab="in-kafka")
    assert waiting(ledger) == []
    ledger.write(lambda db: cataloguing.begin_again(db, "lab"))
    assert catalogue.standings(ledger.reader())[0].again
    steps = tell_again(ledger)
    assert sorted(waiting(ledger)) == [b"0", b"1", b"2", b"3", b"4", b"sent"]
    assert steps > 3
    publish(ledger, received(Sent(b"5", b"5")))
    assert len(waiting(ledger)) == 7


@pytest.fixture
def refusing(ledger: Ledger) -> Ledger:
    """A ledger whose sink has refused ten files, of all kinds, and taken one."""
    configure(ledger, lab="in-kafka")
    publish(ledger, *(received(Sent(b"p%d" % n, b"p%d" % n)) for n in range(5)))
    end(ledger, accept_one(ledger, version(b"sent")), "in_kafka")
    files = [added(b"a%d" % n) for n in range(5)]
    ledger.write(lambda db: cataloguing.add(db, files, ["lab"]))
    write_all(ledger, "lab", *(path for path in waiting(ledger) if path != b"p3"))
    assert len(refused(ledger)) == 10
    return ledger


def test_what_is_refused_again_meanwhile_waits_for_the_next_time(refusing: Ledger) -> None:
    """Of many, a few at a time: nobody's writing waits for all of them."""
    again = refused(refusing)
    refusing.write(lambda db: cataloguing.retry(db, "lab"))
    steps, told = 0, set[bytes]()
    while cataloguing.is_told_again(refusing.reader(), number(refusing)):
        refusing.write(lambda db: cataloguing.go_on_again(db, number(refusing), 2))
        told |= set(some := waiting(refusing))
        assert len(some) <= 2
        write_all(refusing, "lab", *some)
        steps += 1
    assert steps > 5
    assert told == refused(refusing) == again


def test_everything_comes_to_what_was_refused_too(refusing: Ledger) -> None:
    everything = refused(refusing) | {b"p3"}
    refusing.write(lambda db: cataloguing.begin_again(db, "lab"))
    refusing.write(lambda db: cataloguing.go_on_again(db, number(refusing), 2))
    refusing.write(lambda db: cataloguing.retry(db, "lab"))  # nothing less, and not from the start
    assert len(waiting(refusing)) == 2
    configure(refusing, lab="false")  # what was refused of it is told all the same
    tell_again(refusing)
    assert set(waiting(refusing)) == everything
    assert refused(refusing) == set()


def test_a_sink_that_knows_no_row_again_is_told_of_a_file_once(ledger: Ledger) -> None:
    configure(ledger, lab="false")
    first, second = added(b"a"), added(b"b")

    def add(*files: Added) -> list[bytes]:
        ledger.write(lambda db: cataloguing.add(db, files, ["lab"], once=["lab"]))
        return waiting(ledger)

    assert add(first) == add(first) == [b"a"]
    write_all(ledger)
    assert add(first) == []
    assert add(first, second) == [b"b"]
    write_all(ledger, "lab", b"b")
    assert (add(first, second), refused(ledger)) == ([b"b"], set())


def test_a_file_that_is_added_is_told_once(ledger: Ledger) -> None:
    configure(ledger, lab="false", other="false")
    for _ in range(2):
        ledger.write(lambda db: cataloguing.add(db, [added()], ["lab"]))
    assert (waiting(ledger), waiting(ledger, "other")) == ([b"a.csv"], [])
    assert cataloguing.owed(ledger.reader(), [added().tid], ["lab"]) == {added().tid}
    assert cataloguing.owed(ledger.reader(), [added().tid], ["other"]) == set()
    write_all(ledger)
    assert cataloguing.owed(ledger.reader(), [added().tid], ["lab", "other"]) == set()


def test_what_was_added_long_ago_is_forgotten_once_it_is_written(ledger: Ledger) -> None:
    configure(ledger, lab="false")
    ledger.write(lambda db: cataloguing.add(db, [added()], ["lab"]))
    later = time.time() + 10
    assert ledger.write(lambda db: catalogue.prune(db, later, 100)) == 0
    write_all(ledger)
    assert ledger.write(lambda db: catalogue.prune(db, later, 100)) == 1


def test_constants_of_a_route_stand_above_what_the_sender_says(ledger: Ledger) -> None:
    configure(ledger, lab="false")
    told = with_meta(received(Sent(b"a", b"a")), {"site": "there", "sample": "7"})
    publish(ledger, replace(told, constants={"site": "here"}))
    (entry,), _ = catalogue.waiting(ledger.reader(), number(ledger), 9)
    assert entry.meta == '{"site": "here", "sample": "7"}'


def test_a_change_that_may_come_to_nothing_takes_nothing_from_a_sink(ledger: Ledger) -> None:
    """A reload that hangs goes back to what was configured; what was sent meanwhile is owed."""
    configure(ledger, lab="in-kafka")
    ledger.write(lambda db: catalogue.expect(db, {"lab": "false", "new": "delivered"}))
    end(ledger, accept_one(ledger, version(b"b")), "in_kafka")
    assert waiting(ledger) == [b"b"]
    configure(ledger, lab="false", new="delivered")
    end(ledger, accept_one(ledger, version(b"c")), "in_kafka")
    assert waiting(ledger) == [b"b"]


def test_what_a_sink_remembers(ledger: Ledger) -> None:
    configure(ledger, lab="false")
    assert catalogue.recall(ledger.reader(), "lab") == ""
    ledger.write(lambda db: catalogue.remember(db, "lab", "made"))
    configure(ledger, lab="delivered")
    assert catalogue.recall(ledger.reader(), "lab") == "made"


def test_what_was_refused_goes_with_its_file(ledger: Ledger) -> None:
    """It is neither counted nor tried again when nobody knows any more what it was of."""
    configure(ledger, lab="in-kafka")
    publish(ledger, received(Sent(b"a", b"a")))
    end(ledger, accept_one(ledger, version(b"b")), "in_kafka")
    ledger.write(lambda db: cataloguing.add(db, [added(b"c"), added(b"d")], ["lab"]))
    write_all(ledger, "lab", b"a", b"b", b"c", b"d")
    assert ledger.write(lambda db: catalogue.prune(db, 0.0, 100)) == 0
    assert catalogue.standings(ledger.reader())[0].refused == 4
    ledger.write(lambda db: db.execute("DELETE FROM incoming"))
    ledger.write(lambda db: db.execute("DELETE FROM outgoing"))
    while ledger.write(lambda db: catalogue.prune(db, time.time() + 10, 1)):
        pass
    assert catalogue.standings(ledger.reader())[0].refused == 0
    ledger.write(lambda db: cataloguing.retry(db, None))
    tell_again(ledger)
    assert waiting(ledger) == []


def test_who_asks_for_certain_rows_is_not_told_of_newer_ones_instead(ledger: Ledger) -> None:
    configure(ledger, lab="false")
    files = [added(b"%04d" % number) for number in range(100)]
    for one in files:
        ledger.write(partial(cataloguing.add, files=[one], sinks=["lab"]))
        write_all(ledger, "lab", one.path)
    oldest, tids = files[0], {one.tid for one in files}
    (found,) = cataloguing.refused_added(ledger.reader(), None, {oldest.tid})
    assert found.path == oldest.path
    newest = cataloguing.refused_added(ledger.reader(), "lab", tids)
    assert [one.path for one in newest[:2]] == [b"0099", b"0098"]
    assert cataloguing.refused_added(ledger.reader(), None, set()) == []


def test_looks_at_what_was_refused_do_not_read_all_of_it(ledger: Ledger) -> None:
    """A wrong column may have it grow by a week's files."""
    configure(ledger, lab="false")
    asked: list[str] = []
    reader = ledger.reader()
    reader.set_trace_callback(asked.append)
    cataloguing.refused(reader, None, 20)
    cataloguing.refused_added(reader, None, {bytes(16)})
    reader.set_trace_callback(None)
    assert len(asked) == 4
    for text in asked:
        plan = [row[3] for row in reader.execute(f"EXPLAIN QUERY PLAN {text}")]
        assert not any(step.startswith("SCAN r") for step in plan), plan
        assert not any("TEMP B-TREE" in step for step in plan), plan


def test_what_sinks_leave_that_are_gone_is_found_among_what_others_are_owed(ledger: Ledger) -> None:
    for name in ("first", "second", "third"):
        configure(ledger, **dict.fromkeys(("kept", name), "false"))
        for number in range(3):
            file = added(b"%s%d" % (name.encode(), number))
            ledger.write(partial(cataloguing.add, files=[file], sinks=["kept", name]))
    configure(ledger, kept="false")
    while ledger.write(lambda db: catalogue.prune(db, 0.0, 2)):
        pass
    left = ledger.reader().execute(
        "SELECT s.name, count(*) FROM catalogue_row r LEFT JOIN catalogue_sink s ON s.id = r.sink"
        " GROUP BY r.sink"
    )
    assert left.fetchall() == [("kept", 9)]


def test_a_sink_that_comes_is_owed_before_another_goes(ledger: Ledger) -> None:
    configure(ledger, lab="false")
    publish(ledger, received(Sent(b"a", b"a")))
    ledger.write(lambda db: catalogue.expect(db, {"new": "in-kafka"}))
    publish(ledger, received(Sent(b"b", b"b")))
    assert (waiting(ledger), waiting(ledger, "new")) == ([b"a", b"b"], [b"b"])
    configure(ledger, new="in-kafka")
    assert waiting(ledger, "new") == [b"b"]
    assert catalogue.sink_id(ledger.reader(), "lab") is None
