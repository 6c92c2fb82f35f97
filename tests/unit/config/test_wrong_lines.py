"""A line that is wrong: the exact text of its fault, its place and its fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.config.files import DOWNLOAD, KAFKA, UPLOAD, faults, written


@pytest.mark.parametrize(
    ("line", "what", "fix"),
    [
        ("topc: x", "uploads.scope3.topc: unknown key", 'did you mean "topic"?'),
        (
            "settle: 30 sec",
            "uploads.scope3.settle: '30 sec' is not a duration",
            'did you mean "30s"?',
        ),
        (
            "settle: 5",
            "uploads.scope3.settle: '5' is not a duration",
            "write it like 30s, 5m, 24h, 90d",
        ),
        ("settle: 0s", "uploads.scope3.settle: too small", "at least 100ms"),
        ("settle:", "uploads.scope3.settle: no value", "write one, or remove the line"),
        ("settle: [3s]", "uploads.scope3.settle: not a single value", "write KEY: VALUE"),
        ("poll_every:", "uploads.scope3.poll_every: no value", "write one, or remove the line"),
        ("poll_every: 1ms", "uploads.scope3.poll_every: too small", "at least 100ms"),
        ("existing: sent", "uploads.scope3.existing: 'sent' is not known", 'did you mean "send"?'),
        ("watch: nfs", "uploads.scope3.watch: 'nfs' is not known", "one of: auto, inotify, poll"),
        (
            "send: yes",
            "uploads.scope3.send: 'yes' is neither true nor false",
            'did you mean "true"?',
        ),
        (
            "send: Off",
            "uploads.scope3.send: 'Off' is neither true nor false",
            'did you mean "false"?',
        ),
        (
            "rate_limit: 20mib",
            "uploads.scope3.rate_limit: '20mib' is not a size",
            'did you mean "20MiB"?',
        ),
        (
            "include: []",
            "uploads.scope3.include: nothing would be sent",
            'write ["*"] for all files',
        ),
        (
            "include: '*.trc'",
            "uploads.scope3.include: not a list of patterns",
            'write it like ["*.trc", "!old*"]',
        ),
        (
            'exclude: ["*.tmp", "!"]',
            "uploads.scope3.exclude.1: '!' is not a pattern",
            "gitignore style, like *.trc",
        ),
        (
            'exclude: ["[a"]',
            "uploads.scope3.exclude.0: '[a' is not a pattern",
            "gitignore style, like *.trc",
        ),
        (
            "include: [{a: b}]",
            "uploads.scope3.include.0: \"{'a': 'b'}\" is not a pattern",
            "gitignore style, like *.trc",
        ),
        (
            "then: remove",
            "uploads.scope3.then: neither keep nor delete nor {move: DIR}",
            "write keep, delete, or {move: /srv/done}",
        ),
        (
            "then: {copy: /srv/done}",
            "uploads.scope3.then: neither keep nor delete nor {move: DIR}",
            "write keep, delete, or {move: /srv/done}",
        ),
        (
            "then: {move: done}",
            "uploads.scope3.then: 'done' is not an absolute path",
            "begin it with /",
        ),
        (
            "then: {move: /srv/scope3/done}",
            "uploads.scope3.then: /srv/scope3/done is inside the directory of uploads.scope3",
            "move files to a directory apart from those of all routes",
        ),
        ("receivers: 0", "uploads.scope3.receivers: 0 is not between 1 and 1000", "write 1"),
        (
            "format: openmsistreem",
            "uploads.scope3.format: 'openmsistreem' is not known",
            'did you mean "openmsistream"?',
        ),
        (
            "then: delete\n    format: openmsistream",
            "uploads.scope3.then: files go once they are delivered, and nobody confirms what is"
            " sent in openmsistream's format",
            "write keep, or format: kfd",
        ),
        (
            "receivers: 2\n    format: openmsistream",
            "uploads.scope3.receivers: nobody confirms what is sent in openmsistream's format",
            "leave it out, or write format: kfd",
        ),
        (
            "seal_to: [xrd1]",
            "uploads.scope3.seal_to: only [] for now; sealing comes later",
            "write []",
        ),
    ],
)
def test_a_wrong_line_of_an_upload(tmp_path: Path, line: str, what: str, fix: str) -> None:
    path = written(tmp_path, KAFKA, UPLOAD, f"    {line}\n")
    assert faults(path) == [(f"kfd.yaml:7: {what}", fix)]


MODE_FIX = 'three octal digits after a 0, like "0640"'


@pytest.mark.parametrize(
    ("line", "what", "fix"),
    [
        ("file_mode: 0o640", "downloads.archive.file_mode: '0o640' is not a mode", MODE_FIX),
        ("file_mode: 04755", "downloads.archive.file_mode: '04755' is not a mode", MODE_FIX),
        ("file_mode: rw-r--", "downloads.archive.file_mode: 'rw-r--' is not a mode", MODE_FIX),
        (
            "directory_mode: 0650",
            "downloads.archive.directory_mode: its owner, kfd, could not use it",
            'did you mean "0750"?',
        ),
        (
            'layout: "{orign}/{path}"',
            "downloads.archive.layout: a layout knows only {origin}, {path} and {topic}",
            'write it like "{origin}/{path}"',
        ),
        (
            "start: earlest",
            "downloads.archive.start: 'earlest' is not known",
            'did you mean "earliest"?',
        ),
        ("max_size: 0", "downloads.archive.max_size: too small", "at least 1B"),
        (
            "min_free: 100%",
            "downloads.archive.min_free: '100%' is not a share of a disk",
            "write it like 1%, 0.5%",
        ),
        (
            "incomplete_timeout: 10ms",
            "downloads.archive.incomplete_timeout: too small",
            "at least 1s",
        ),
        (
            "sealed: true",
            "downloads.archive.sealed: only false for now; sealing comes later",
            "write false",
        ),
        (
            "owner_group: a b",
            "downloads.archive.owner_group: 'a b' is not a group",
            "the name of a Unix group",
        ),
        (
            "group: a b",
            "downloads.archive.group: 'a b' is not a consumer group",
            "1 to 255 of ASCII, no space",
        ),
        ("name: x", "downloads.archive.name: unknown key", "did you mean"),
    ],
)
def test_a_wrong_line_of_a_download(tmp_path: Path, line: str, what: str, fix: str) -> None:
    path = written(tmp_path, KAFKA, DOWNLOAD, f"    {line}\n")
    ((found, found_fix),) = faults(path)
    assert found == f"kfd.yaml:7: {what}"
    assert found_fix == fix or (fix == "did you mean" and found_fix.startswith("one of: topic, "))


@pytest.mark.parametrize(
    ("line", "what", "fix"),
    [
        ("chunk_sise: 1MiB", "chunk_sise: unknown key", 'did you mean "chunk_size"?'),
        (
            "chunk_size: 500KiB",
            "chunk_size: '500KiB' is not a power of two from 1KiB to 64MiB",
            "did you mean 256KiB?",
        ),
        (
            "chunk_size: 1GiB",
            "chunk_size: '1GiB' is not a power of two from 1KiB to 64MiB",
            "did you mean 64MiB?",
        ),
        (
            "chunk_size: 0",
            "chunk_size: '0' is not a power of two from 1KiB to 64MiB",
            "did you mean 1KiB?",
        ),
        ("pools: 5", "pools: not a mapping", "write KEY: VALUE lines below it, indented"),
        (
            "pools: {producers: 5}",
            "pools.producers: unknown key",
            'did you mean "producer_threads"?',
        ),
        (
            "pools: {producer_threads: 0}",
            "pools.producer_threads: 0 is not between 1 and 256",
            "write 1",
        ),
        (
            "pools: {producer_threads: many}",
            "pools.producer_threads: 'many' is not a whole number",
            "1 to 256",
        ),
        ("queue: {size: 256KiB}", "queue.size: smaller than a chunk of 512KiB", "at least 512KiB"),
        (
            "metrics: 9464",
            "metrics: '9464' is neither off nor an address",
            "write HOST:PORT, like 127.0.0.1:9464",
        ),
        (
            "metrics: 127.0.0.1:94640",
            "metrics: '127.0.0.1:94640' is neither off nor an address",
            "write HOST:PORT, like 127.0.0.1:9464",
        ),
        (
            "catalogue: {x: 'postgresql://u:hunter2@h'}",
            "catalogue.x: not a mapping",
            "write KEY: VALUE lines below it, indented",
        ),
        ("history: 5m", "history: too small", "at least 1h"),
        (
            "origin: -x",
            "origin: '-x' is not a name",
            "a letter or digit, then up to 63 of A-Z a-z 0-9 . _ -",
        ),
        (
            "create_topics: 1",
            "create_topics: '1' is neither true nor false",
            'did you mean "true"?',
        ),
        ("uploads: [a]", "uploads: not a mapping", "write KEY: VALUE lines below it, indented"),
        (
            "uploads: {a: b}",
            "uploads.a: not a mapping",
            "write KEY: VALUE lines below it, indented",
        ),
        ("bad key: 1", "?: unknown key", "one of"),
    ],
)
def test_a_wrong_line_at_the_top(tmp_path: Path, line: str, what: str, fix: str) -> None:
    path = written(tmp_path, KAFKA, f"{line}\n")
    ((found, found_fix),) = faults(path)
    assert found == f"kfd.yaml:3: {what}"
    assert found_fix == fix or (fix == "one of" and found_fix.startswith("one of: origin, kafka, "))


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("{topic: t}", [("x.directory: missing", "add directory: /absolute/path")]),
        ("{directory: /d}", [("x.topic: missing", "add topic: NAME")]),
        (
            "",
            [
                ("x.directory: missing", "add directory: /absolute/path"),
                ("x.topic: missing", "add topic: NAME"),
            ],
        ),
        ("{topic: t, directry: /d}", [("x.directry: unknown key", 'did you mean "directory"?')]),
        (
            "{topic: t, directory: d}",
            [("x.directory: 'd' is not an absolute path", "begin it with /")],
        ),
        (
            "{topic: t, directory: ~/d}",
            [("x.directory: '~/d' is not an absolute path", "begin it with /")],
        ),
        (
            "{topic: t, directory: /d/../e}",
            [("x.directory: '/d/../e' holds a NUL or ..", "write the path without it")],
        ),
        (
            "{topic: a b, directory: /d}",
            [("x.topic: 'a b' is not the name of a topic", "1 to 249 of A-Z a-z 0-9 . _ -")],
        ),
        (
            "{topic: .., directory: /d}",
            [("x.topic: '..' is not the name of a topic", "1 to 249 of A-Z a-z 0-9 . _ -")],
        ),
    ],
)
def test_what_a_route_needs(tmp_path: Path, route: str, expected: list[tuple[str, str]]) -> None:
    path = written(tmp_path, KAFKA, f"uploads:\n  x: {route}\n")
    assert faults(path) == [(f"kfd.yaml:4: uploads.{what}", fix) for what, fix in expected]


def test_a_route_needs_a_name_that_can_be_typed(tmp_path: Path) -> None:
    path = written(tmp_path, KAFKA, "uploads:\n  a b: {directory: /d, topic: t}\n")
    assert faults(path) == [
        (
            "kfd.yaml:4: uploads.?: 'a b' is not a name",
            "a letter or digit, then up to 63 of A-Z a-z 0-9 . _ -",
        )
    ]


def test_a_key_of_the_other_kind_of_route(tmp_path: Path) -> None:
    assert faults(written(tmp_path, KAFKA, DOWNLOAD, "    then: delete\n")) == [
        (
            "kfd.yaml:7: downloads.archive.then: unknown key",
            "then is for uploads: remove the line",
        )
    ]
