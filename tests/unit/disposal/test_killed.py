"""Killed while files are deleted or moved: nothing is lost, nothing stays aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from kfd.config.values import Then
from tests.parts import mounted, visible
from tests.unit.disposal.files import (
    DELETE,
    PATH,
    change_content,
    dispose,
    killed_at,
    left_over,
    sent,
)

RENAMING = DELETING = ["then.aside", "then.done"]


COPYING = ["then.aside", "then.copied", "then.placed", "then.done"]


@pytest.mark.parametrize("place", DELETING)
def test_delete_killed_anywhere(uploads: Path, place: str) -> None:
    one = sent(uploads)
    killed_at(place, lambda: dispose(uploads, DELETE, one))
    dispose(uploads, DELETE, one)
    assert visible(uploads) == {}
    assert left_over(uploads) == []


@pytest.mark.parametrize("place", RENAMING)
def test_move_killed_anywhere(uploads: Path, done: Path, place: str) -> None:
    killed_while_moving(uploads, done, place)


@pytest.mark.parametrize("place", COPYING)
def test_copy_killed_anywhere(uploads: Path, done: Path, place: str) -> None:
    done.parent.mkdir()
    with mounted(done.parent, "tmpfs"):
        killed_while_moving(uploads, done, place)


def killed_while_moving(uploads: Path, target: Path, place: str) -> None:
    one = sent(uploads)
    then = Then("move", target)
    killed_at(place, lambda: dispose(uploads, then, one))
    dispose(uploads, then, one)
    assert (visible(uploads), visible(target)) == ({}, {PATH: b"content"})
    assert left_over(uploads) == []


def test_put_back_killed_before(uploads: Path) -> None:
    file = uploads / "d" / "run.trc"
    one = sent(uploads)
    killed_at("then.aside", lambda: dispose(uploads, DELETE, one))
    change_content(uploads / ".kfd" / left_over(uploads)[0])
    killed_at("then.changed", lambda: dispose(uploads, DELETE, one))
    assert dispose(uploads, DELETE, one) == [False]
    assert file.read_bytes() == b"content!"


def test_a_route_that_keeps_files_now_gives_back_what_is_aside(uploads: Path) -> None:
    one = sent(uploads)
    killed_at("then.aside", lambda: dispose(uploads, DELETE, one))
    assert visible(uploads) == {}
    assert dispose(uploads, Then("keep"), one) == [False]
    assert visible(uploads) == {PATH: b"content"}
    assert dispose(uploads, Then("keep"), one) == [False]
    assert visible(uploads) == {PATH: b"content"}
