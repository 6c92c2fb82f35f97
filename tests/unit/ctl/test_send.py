"""``kfdctl send``: what it asks for, and what it answers."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kfd.control import State
from tests.control import TID, MemoryOperations
from tests.unit.ctl.kfdctl import run, run_json


def test_send_says_where_and_waits(served: Path, operations: MemoryOperations, trace: Path) -> None:
    code, out, err = run("send", trace, "--socket", served, "--meta", "run=42", "--meta", "e=a=b")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == "run42.trc  2 KiB  scope3 -> lecroy_files  id 9f2c41d7"
    assert re.fullmatch(
        r"In Kafka after [0-9.]+ s; not yet confirmed by a receiver\."
        r"  See: kfdctl wait --until delivered 9f2c41d7",
        second,
    )
    (request,) = operations.sent
    assert request.meta == {"run": "42", "e": "a=b"}
    assert [file.source for file in request.files] == [os.fsencode(trace)]
    assert [(file.name, file.fallback) for file in request.files] == [(None, None)]
    assert operations.contents == [b"v" * 100]


def test_send_passes_its_options_on(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    options = ["--route", "r", "--topic", "t", "--name", "a/b.trc", "--again"]
    assert run("send", trace, "--socket", served, *options)[0] == 0
    (request,) = operations.sent
    assert (request.route, request.topic, request.again) == ("r", "t", True)
    assert request.files[0].name == b"a/b.trc"


def test_send_json(served: Path, operations: MemoryOperations, trace: Path) -> None:
    answer = run_json("send", trace, "--socket", served)
    (sent,) = answer["files"]
    assert sent["tid"] == TID
    assert (sent["path"], sent["size"], sent["already"]) == ("run42.trc", 2048, False)
    assert [one["state"] for one in answer["transfers"]] == ["in_kafka"]


def test_send_follows_symbolic_links_that_are_named(
    served: Path, operations: MemoryOperations, trace: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(trace)
    assert run("send", tmp_path / "link", "--socket", served)[0] == 0
    assert operations.sent[0].files[0].source == os.fsencode(trace)


def test_send_until_queued_does_not_wait(
    served: Path, operations: MemoryOperations, trace: Path
) -> None:
    operations.ends_at_once = False
    code, out, _ = run("send", trace, "--until", "queued", "--socket", served)
    assert code == 0
    assert out.splitlines()[1] == "Queued.  See: kfdctl list"


def test_send_dry_run(served: Path, operations: MemoryOperations, trace: Path) -> None:
    code, out, err = run("send", trace, "--dry-run", "--socket", served)
    assert (code, err) == (0, "")
    assert out == "run42.trc  2 KiB  scope3 -> lecroy_files  would be sent\n"
    assert operations.sent[0].dry_run
    assert operations.known == {}


def test_send_says_what_was_sent_already(served: Path, tmp_path: Path) -> None:
    (tmp_path / "old.trc").write_bytes(b"")
    code, out, _ = run("send", tmp_path / "old.trc", "--until", "queued", "--socket", served)
    assert code == 0
    assert out == "old.trc  0 B  scope3 -> lecroy_files  was sent already, id 9f2c41d7\n"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State.QUEUED, "is queued already"),
        (State.SENDING, "is on its way already"),
        (State.IN_KAFKA, "was sent already"),
        (State.FAILED, "has failed before"),
        (State.CANCELLED, "was cancelled before"),
        (None, "was sent already"),
    ],
)
def test_send_says_what_became_of_what_was_taken_before(
    served: Path, operations: MemoryOperations, tmp_path: Path, state: State | None, text: str
) -> None:
    operations.taken_before = state
    (tmp_path / "old.trc").write_bytes(b"")
    out = run("send", tmp_path / "old.trc", "--until", "queued", "--socket", served)[1]
    assert out == f"old.trc  0 B  scope3 -> lecroy_files  {text}, id 9f2c41d7\n"


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["bad-2"], 2), (["bad-4", "bad-4b"], 4), (["bad-4", "good"], 4), (["bad-2", "bad-4"], 1),
        (["bad-9"], 1), (["bad-0"], 1),
    ],
)  # fmt: skip
def test_the_exit_code_is_what_all_refusals_agree_on(
    served: Path, tmp_path: Path, names: list[str], code: int
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert run("send", *(tmp_path / name for name in names), "--socket", served)[0] == code


def test_an_empty_directory_has_nothing_to_send(served: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "too").mkdir(parents=True)
    top = tmp_path / "empty"
    for more in ([], ["--name", "n"]):
        code, out, err = run("send", "--recursive", top, *more, "--socket", served)
        assert (code, out) == (0, "")
        assert err == f"Nothing to send: there are no files in {top}.\n"
    answer = run_json("send", "--recursive", top, "--socket", served)
    assert answer == {"files": [], "transfers": []}


def test_send_goes_on_past_a_refused_file(served: Path, tmp_path: Path, trace: Path) -> None:
    (tmp_path / "bad.trc").write_bytes(b"")
    code, out, err = run("send", tmp_path / "bad.trc", trace, "--socket", served)
    assert code == 1
    assert err == "kfdctl: bad.trc: no route takes it\n  fix: --route R\n"
    assert out.startswith("run42.trc  2 KiB")


def test_send_names_what_it_cannot_read(served: Path, tmp_path: Path) -> None:
    code, _, err = run("send", tmp_path / "missing\x1b[31m", "--socket", served)
    assert (code, err) == (
        1,
        f"kfdctl: {tmp_path}/missing\\x1b[31m: No such file or directory\n"
        "  fix: look at its name, its permissions, its disk\n",
    )
    os.mkfifo(tmp_path / "pipe")
    code, _, err = run("send", tmp_path / "pipe", "--socket", served)
    assert (code, err) == (
        2,
        f"kfdctl: {tmp_path}/pipe is not a regular file\n  fix: kfdctl send - --name NAME < FILE\n",
    )


def test_send_recursive_takes_regular_files_from_the_directorys_name_on(
    served: Path, operations: MemoryOperations, tmp_path: Path
) -> None:
    top = tmp_path / "week 7"
    (top / "b").mkdir(parents=True)
    for name in ("z", "b/y", "a;x"):
        (top / name).write_text(name)
    with open(os.fsencode(top) + b"/caf\xe9", "w"):
        pass
    (top / "link").symlink_to("z")
    (top / "loop").symlink_to(".")
    os.mkfifo(top / "pipe")
    code, out, err = run("send", f"{top}/", "--recursive", "--dry-run", "--socket", served)
    assert (code, err) == (0, "")
    assert "caf\\xe9  0 B" in out
    names = [file.fallback for request in operations.sent for file in request.files]
    assert sorted(filter(None, names)) == [
        b"week 7/a;x", b"week 7/b/y", b"week 7/caf\xe9", b"week 7/z",
    ]  # fmt: skip


def test_send_makes_batches_of_many_files(
    served: Path, operations: MemoryOperations, tmp_path: Path
) -> None:
    top = tmp_path / "many"
    top.mkdir()
    for number in range(600):
        (top / f"{number:03}").touch()
    code, out, err = run("send", top, "--recursive", "--socket", served)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 601
    assert "In Kafka (600 files, 0 B) after" in out.splitlines()[-1]
    assert [len(request.files) for request in operations.sent] == [253, 253, 94]


def test_send_keeps_requests_small(
    served: Path, operations: MemoryOperations, tmp_path: Path
) -> None:
    top = tmp_path / ("d" * 200) / ("e" * 200)
    top.mkdir(parents=True)
    for number in range(200):
        (top / f"{number:03}{'n' * 240}").touch()
    code, _, err = run("send", top, "--recursive", "--until", "queued", "--socket", served)
    assert (code, err) == (0, "")
    assert sum(len(request.files) for request in operations.sent) == 200
    assert len(operations.sent) > 1
