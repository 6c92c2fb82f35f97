"""Reloads that fail in the middle, with the real parts of a daemon; no broker answers them."""

from __future__ import annotations

import errno
import threading
from typing import Any

import pytest

from kfd.daemon import reload as reload_module
from kfd.daemon.catalogue import catalogues
from kfd.daemon.incoming import downloads as downloads_module
from kfd.daemon.incoming.consumer import ConsumerThread
from kfd.daemon.ledger import LedgerError
from kfd.daemon.publishing.partials import DiskError
from kfd.daemon.reload import UNCHANGED
from kfd.errors import KfdError
from tests.support import eventually
from tests.unit.reloading import Running


def private_mode(values: dict[str, Any]) -> None:
    values["downloads"]["in"]["file_mode"] = "0600"


def test_a_directory_that_cannot_be_settled(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is as it was before, with threads that work."""
    failures = [DiskError(OSError(errno.EIO, "Input/output error"), running.home)]
    settle = downloads_module.settle

    def fail_once(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        settle(*arguments)

    monkeypatch.setattr(downloads_module, "settle", fail_once)
    other = running.downloads.routes["other"]
    watcher = running.uploads.watchers["out"]
    running.change(private_mode)
    refused = running.refusal()
    assert "Input/output error" in refused.what
    assert refused.fix.endswith(UNCHANGED)
    route = running.downloads.routes["in"]
    assert route.config.file_mode == 0o640
    assert all(consumer.alive for consumer in route.consumers)
    assert running.downloads.routes["other"] is other
    assert running.uploads.watchers["out"] is watcher
    assert watcher.alive
    done = running.reloader.ask().result(60)
    assert done.changed == ("downloads.in",)
    assert running.downloads.routes["in"].config.file_mode == 0o600
    assert running.health.problems() == []


def test_consumers_that_hang(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else may write where they do: the route waits for them, the others go on."""
    monkeypatch.setattr(downloads_module, "RETIRE_SECONDS", 0.2)
    hangs, over = running.downloads.routes["in"].consumers[0], threading.Event()
    join = ConsumerThread.join

    def late(self: ConsumerThread, timeout: float) -> bool:
        return join(self, timeout) and (self is not hangs or over.is_set())

    monkeypatch.setattr(ConsumerThread, "join", late)
    monkeypatch.setattr(
        ConsumerThread, "alive", property(lambda self: self is hangs and not over.is_set())
    )

    def both(values: dict[str, Any]) -> None:
        private_mode(values)
        values["downloads"]["other"]["file_mode"] = "0600"

    running.change(both)
    refused = running.refusal()
    assert "consumer-in-1: no end after" in refused.what
    (problem,) = [one for one in running.health.problems() if one.degrades]
    assert problem.scope == "configuration"
    assert "restart kfd" in problem.fix
    other = running.downloads.routes["other"]
    assert other.config.file_mode == 0o640
    assert not other.stopped
    assert running.downloads.routes["in"].consumers[0] is hangs
    over.set()
    done = running.reloader.ask().result(60)
    assert done.changed == ("downloads.in", "downloads.other")
    assert running.downloads.routes["in"].consumers[0] is not hangs
    assert running.health.problems() == []


def full(*_: object) -> None:
    raise LedgerError("the ledger cannot be written", fix="make room")


def test_a_full_ledger_stops_nothing(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    before = running.downloads.routes["in"]
    monkeypatch.setattr(catalogues.catalogue, "expect", full)
    running.change(lambda values: values["downloads"]["in"].update(max_size="1GiB"))
    assert running.refusal().fix.endswith(UNCHANGED)
    assert running.downloads.routes["in"] is before
    assert not before.stopped
    assert all(consumer.alive for consumer in before.consumers)


def test_what_cannot_go_back_at_once_does_so_later(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its routes would stand still until somebody looks."""
    monkeypatch.setattr(reload_module, "TIDY_SECONDS", 0.05)
    monkeypatch.setattr(running.downloads, "take", full)
    running.change(lambda values: values["downloads"]["in"].update(max_size="1GiB"))
    assert UNCHANGED not in running.refusal().fix
    assert any(
        problem.text.startswith("routes stand still") for problem in running.health.problems()
    )
    assert not any(one.alive for one in running.downloads.routes["in"].consumers)
    monkeypatch.undo()
    eventually(lambda: all(one.alive for one in running.downloads.routes["in"].consumers))
    eventually(lambda: not any(one.degrades for one in running.health.problems()))
    assert running.downloads.routes["in"].config.max_size != 1 << 30


def test_all_that_is_wrong_with_the_directories_is_told_at_once(running: Running) -> None:
    (running.home / "file").write_bytes(b"")

    def spoil(values: dict[str, Any]) -> None:
        values["downloads"]["a"] = {**running.download("file"), "group": "a"}
        values["downloads"]["b"] = {**running.download("b"), "owner_group": "no-such-group"}

    running.change(spoil)
    refused = running.refusal()
    texts = [str(fault) for fault in refused.faults]  # type: ignore[attr-defined]
    assert any("file" in text for text in texts)
    assert any("no group no-such-group" in text for text in texts)
    assert not (running.home / "b").exists()


def test_another_origin_is_refused_as_at_the_start(running: Running) -> None:
    running.change(lambda values: values.update(origin="elsewhere"))
    assert "this ledger sends as 'here'" in running.refusal().what


def test_whoever_asks_meanwhile_gets_the_same_answer(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, go_on = threading.Event(), threading.Event()
    prepare = running.downloads.prepare

    def slow(config: Any) -> Any:
        busy.set()
        go_on.wait(30)
        return prepare(config)

    monkeypatch.setattr(running.downloads, "prepare", slow)
    first = running.reloader.ask()
    assert busy.wait(30)
    second, third = running.reloader.ask(), running.reloader.ask()
    assert second is third
    assert second is not first
    go_on.set()
    assert first.result(30).nothing
    assert second.result(30).nothing


def test_nobody_waits_for_a_reloader_that_has_ended(running: Running) -> None:
    running.reloader.stop()
    assert running.reloader.join(30)
    with pytest.raises(KfdError, match="stopping"):
        running.reloader.ask().result(5)


def test_a_daemon_without_a_file_says_so(running: Running) -> None:
    running.reloader.path = None
    assert "without a configuration file" in running.refusal().what


def test_none_is_done_while_it_drains(running: Running) -> None:
    from kfd.control import DaemonState  # noqa: PLC0415 - of this test only

    running.reloader._parts.context.life.reach(DaemonState.DRAINING)
    assert "finishing its work" in running.refusal().what


def test_problems_of_routes_that_go_go_with_them(running: Running) -> None:
    (running.home / "up").rename(running.home / "away")
    eventually(lambda: [one.scope for one in running.health.problems()] == ["out"], 30)
    running.change(lambda values: values["uploads"].clear())
    assert running.reloader.ask().result(60).removed == ("uploads.out",)
    assert running.health.problems() == []
