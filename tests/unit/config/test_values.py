"""What a configuration says: each value in its unit, defaults, places in the file."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from pydantic import ValidationError

from kfd.config import load
from kfd.config.values import Then
from kfd.paths import Layout
from kfd.units import Room
from tests.unit.config.files import DOWNLOAD, KAFKA, MIB, UPLOAD, written


def test_a_configuration_without_routes_is_valid(tmp_path: Path) -> None:
    config = load(written(tmp_path, KAFKA, "uploads:\n", "downloads:\n"))
    assert (config.uploads, config.downloads, config.origin) == ({}, {}, None)
    assert (config.chunk_size, config.create_topics, config.control_group) == (
        512 * 1024,
        True,
        "kfd",
    )
    assert (config.pools.producer_threads, config.pools.consumer_threads) == (5, 5)
    assert (config.queue.messages, config.queue.size) == (3000, 64 * MIB)
    assert config.history == 90 * 86400


def test_routes_know_their_names_and_defaults(tmp_path: Path) -> None:
    config = load(written(tmp_path, KAFKA, UPLOAD, DOWNLOAD))
    upload, download = config.uploads["scope3"], config.downloads["archive"]
    assert (upload.name, upload.directory, upload.topic) == (
        "scope3",
        Path("/srv/scope3"),
        "lecroy",
    )
    assert upload.settle is None
    assert (upload.rate_limit, upload.send, upload.watch) == (None, True, "auto")
    assert (download.name, download.group) == ("archive", "kfd-archive")
    assert download.layout == Layout.parse("{origin}/{path}")
    assert (download.file_mode, download.directory_mode) == (0o640, 0o750)
    assert (download.min_free, download.incomplete_timeout) == (Room(share=0.01), 86400.0)
    assert (upload.then, upload.receivers) == (Then("keep"), 1)


def test_every_value_is_read_in_its_unit(tmp_path: Path) -> None:
    upload = (
        UPLOAD
        + """\
    include: ["*.trc", "!old*"]
    exclude: []
    existing: skip
    watch: poll
    poll_every: 500ms
    settle: 1m
    then: {move: /srv/done/}
    receivers: 2
    rate_limit: 20MiB
    send: false
"""
    )
    download = (
        DOWNLOAD
        + """\
    layout: "{topic}/x/{path}"
    group: lab/archive
    start: latest
    file_mode: 0604
    directory_mode: "700"
    owner_group: analysts
    min_free: 20GiB
    max_size: 10MB
    incomplete_timeout: 90m
"""
    )
    rest = "chunk_size: 16384\npools: {producer_threads: 2}\nqueue: {size: 1MiB}\nhistory: 1h\n"
    config = load(written(tmp_path, "origin: 2024-01-01\n", KAFKA, upload, download, rest))
    up, down = config.uploads["scope3"], config.downloads["archive"]
    assert config.origin == "2024-01-01"
    assert (up.include, up.exclude, up.existing, up.watch) == (
        ("*.trc", "!old*"),
        (),
        "skip",
        "poll",
    )
    assert (up.poll_every, up.settle, up.rate_limit, up.send) == (0.5, 60.0, 20 * MIB, False)
    assert up.settle == 60.0
    assert (down.layout.text, down.group, down.start) == (
        "{topic}/x/{path}",
        "lab/archive",
        "latest",
    )
    assert (down.file_mode, down.directory_mode, down.owner_group) == (0o604, 0o700, "analysts")
    assert (up.then, up.receivers) == (Then("move", Path("/srv/done")), 2)
    assert (down.min_free, down.incomplete_timeout) == (Room(size=20 * 2**30), 5400.0)
    assert (down.max_size, config.chunk_size, config.history) == (10_000_000, 16384, 3600.0)
    assert (config.pools.producer_threads, config.pools.consumer_threads) == (2, 5)
    assert (config.queue.messages, config.queue.size) == (3000, MIB)


def test_two_uploads_may_share_a_directory(tmp_path: Path) -> None:
    config = load(
        written(
            tmp_path,
            KAFKA,
            textwrap.dedent(
                """\
            uploads:
              all: {directory: /srv, topic: a}
              one: {directory: /srv/one, topic: b}
              too: {directory: /srv/one/, topic: c}
            downloads:
              back: {directory: /srv2, topic: a}
            """
            ),
        )
    )
    assert config.uploads["too"].directory == Path("/srv/one")


def test_directories_with_a_common_beginning_are_not_nested(tmp_path: Path) -> None:
    routes = """\
uploads: {u: {directory: /srv/lab, topic: t}}
downloads: {d: {directory: /srv/lab2, topic: t}}
"""
    assert load(written(tmp_path, KAFKA, routes)).downloads


def test_a_configuration_cannot_be_changed(tmp_path: Path) -> None:
    config = load(written(tmp_path, KAFKA, UPLOAD))
    with pytest.raises(ValidationError):
        config.chunk_size = 1
    with pytest.raises(ValidationError):
        config.uploads["scope3"].topic = "x"


def test_equal_is_what_says_the_same(tmp_path: Path) -> None:
    one = load(written(tmp_path, KAFKA, UPLOAD))
    same = load(written(tmp_path, "# moved down\n", UPLOAD, KAFKA))
    other = load(written(tmp_path, KAFKA, UPLOAD, "    settle: 4s\n"))
    assert one == same
    assert one != other
    assert one.where("kafka") == "kfd.yaml:1"
    assert same.where("kafka") == "kfd.yaml:6"


def test_later_faults_find_their_line(tmp_path: Path) -> None:
    config = load(written(tmp_path, KAFKA, UPLOAD))
    assert config.where("uploads", "scope3", "directory") == "kfd.yaml:5"
    assert config.where("uploads", "scope3", "settle") == "kfd.yaml:4"
    assert config.where("history") == "kfd.yaml:1"
