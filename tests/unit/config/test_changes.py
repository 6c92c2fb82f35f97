"""What a reload would do: named, and divided into what holds at once and what doesn't."""

from __future__ import annotations

from typing import Any

import pytest

from kfd.config import Config, from_values
from kfd.config.changes import Changes, changes, in_effect

KAFKA = {"bootstrap.servers": "b:9092"}
OUT = {"directory": "/srv/a", "topic": "t"}
IN = {"directory": "/data", "topic": "t"}


def config(**values: Any) -> Config:
    return from_values({"kafka": KAFKA, **values})


def difference(old: Config, new: Config) -> Changes:
    return changes(old, new, old.kafka_properties(), new.kafka_properties())


def test_the_same_changes_nothing() -> None:
    assert difference(config(uploads={"a": OUT}), config(uploads={"a": OUT})).nothing


def test_routes_are_named_in_full() -> None:
    old = config(uploads={"a": OUT, "b": {**OUT, "directory": "/srv/b"}})
    new = config(uploads={"a": {**OUT, "settle": "9s"}}, downloads={"b": IN})
    found = difference(old, new)
    assert (found.added, found.changed) == (("downloads.b",), ("uploads.a",))
    assert found.removed == ("uploads.b",)
    assert (found.applied, found.restart) == ((), ())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("create_topics", "false"),
        ("chunk_size", "64KiB"),
        ("history", "30d"),
        ("spool_max", "1GiB"),
        ("quarantine_max", "1GiB"),
        ("metrics", "127.0.0.1:9464"),
    ],
)
def test_settings_that_hold_at_once(key: str, value: str) -> None:
    new = config(**{key: value})
    assert difference(config(), new).applied == (key,)
    assert getattr(in_effect(config(), new), key) == getattr(new, key)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"queue": {"messages": "7"}}, "queue.messages"),
        ({"pools": {"consumer_threads": "7"}}, "pools.consumer_threads"),
        ({"control_group": "lab"}, "control_group"),
        ({"kafka": {**KAFKA, "linger.ms": "7"}}, "kafka.linger.ms"),
        ({"kafka": {"bootstrap.servers": "c:9092"}}, "kafka.bootstrap.servers"),
    ],
)
def test_settings_that_need_a_restart_stay_as_they_run(values: dict[str, Any], named: str) -> None:
    old, new = config(), config(**values)
    found = difference(old, new)
    assert (found.restart, found.applied) == ((named,), ())
    assert in_effect(old, new) == old


def test_every_setting_is_one_or_the_other() -> None:
    """One that is added to the model is noticed here, not by somebody whose reload did nothing."""
    with_rules = {"uploads", "downloads", "catalogue", "origin", "kafka"}
    old = config()
    for key in Config.model_fields.keys() - with_rules - {"chunk_size"}:
        found = difference(old, old.model_copy(update={key: object()}))
        assert any(one.startswith(key) for one in (*found.applied, *found.restart)), key


def test_a_chunk_that_the_queue_has_no_room_for_waits_for_the_restart() -> None:
    old = config(queue={"size": "1MiB"})
    new = config(queue={"size": "8MiB"}, chunk_size="2MiB")
    found = difference(old, new)
    assert (sorted(found.restart), found.applied) == (["chunk_size", "queue.size"], ())
    assert in_effect(old, new).chunk_size == old.chunk_size


def test_a_secret_that_changed_is_named_and_not_shown() -> None:
    old = config(kafka={**KAFKA, "sasl.password": "before"})
    new = config(kafka={**KAFKA, "sasl.password": "after"})
    found = difference(old, new)
    assert found.restart == ("kafka.sasl.password",)
    assert "after" not in repr(found)


def test_what_is_in_effect_has_the_places_of_the_new_file() -> None:
    new = config(uploads={"a": OUT})
    assert in_effect(config(), new).where("uploads", "a") == new.where("uploads", "a")
