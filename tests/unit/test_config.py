"""The configuration: every key, every fault with its exact text, and secrets that stay secret."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import ValidationError

from kfd.config import Config, from_flags, from_values, load, show
from kfd.config.properties import RESERVED, is_secret
from kfd.config.values import Then
from kfd.errors import ConfigError, ExitCode, KfdError, PermissionProblemError, UsageError
from kfd.paths import Layout
from kfd.units import Room
from tests.privileges import unprivileged
from tests.support import CHECKOUT

SHIPPED = CHECKOUT / "etc" / "kfd.yaml"
MIB = 2**20

KAFKA = """\
kafka:
  bootstrap.servers: broker:9092
"""
UPLOAD = """\
uploads:
  scope3:
    directory: /srv/scope3
    topic: lecroy
"""
DOWNLOAD = """\
downloads:
  archive:
    directory: /data/lab
    topic: lecroy
"""


def written(directory: Path, *parts: str) -> Path:
    path = directory / "kfd.yaml"
    path.write_text("".join(parts))
    return path


def faults(path: Path) -> list[tuple[str, str]]:
    """What is wrong with a file: every fault's text and fix."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert caught.value.__context__ is None, "pydantic's error quotes values"
    return [(str(fault), fault.fix) for fault in caught.value.faults]


# --- what is right


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


def test_a_file_does_not_go_before_all_routes_have_sent_it(tmp_path: Path) -> None:
    uploads = """\
uploads:
  all: {directory: /srv, topic: a}
  one: {directory: /srv/one, topic: b, then: delete}
"""
    assert faults(written(tmp_path, KAFKA, uploads)) == [
        (
            "kfd.yaml:5: uploads.one.then: its files are those of uploads.all too,"
            " which may not have sent them yet",
            "write keep, or give each route a directory of its own",
        )
    ]


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


# --- the shipped file


def test_the_shipped_file_has_one_fault_until_it_names_a_broker() -> None:
    line = SHIPPED.read_text().splitlines().index("  bootstrap.servers: CHANGE-ME:9092") + 1
    assert faults(SHIPPED) == [
        (
            f"kfd.yaml:{line}: kafka.bootstrap.servers: still CHANGE-ME",
            "write the HOST:PORT of a broker, or several with commas between",
        )
    ]


def uncommented() -> str:
    """The shipped file with every commented key in force."""
    text = SHIPPED.read_text().replace("CHANGE-ME", "broker")
    return re.sub(r"^( *)#( *[a-z][a-z_.]*:(?: |$))", _opened, text, flags=re.MULTILINE)


def _opened(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2]}"


def test_the_defaults_that_the_shipped_file_shows_are_the_defaults(tmp_path: Path) -> None:
    minimal = """\
kafka: {bootstrap.servers: "broker:9092"}
uploads: {scope3: {directory: /srv/instruments/scope3, topic: lecroy_files}}
downloads: {archive: {topic: lecroy_files, directory: /data/lab}}
"""
    default = yaml.safe_load(show(load(written(tmp_path, minimal))))
    shipped = yaml.safe_load(show(load(written(tmp_path, uncommented()))))
    # What has no default that could be written shows an example.
    assert shipped.pop("origin") == "scope3"
    assert len(shipped.pop("kafka")) == 7
    default.pop("kafka")
    assert shipped["uploads"]["scope3"].pop("settle") == "3s"
    assert shipped["downloads"]["archive"].pop("owner_group") == "analysts"
    assert shipped == default


def test_the_shipped_file_shows_every_key() -> None:
    document = yaml.safe_load(uncommented())
    routes = {"uploads": "scope3", "downloads": "archive"}
    for name, field in Config.model_fields.items():
        assert name in document
        if name in routes:
            shown = document[name][routes[name]]
            route = get_args(field.annotation)[1]
            assert set(shown) == set(route.model_fields) - {"name"}


# --- what is wrong


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
        (
            "receivers: 0",
            "uploads.scope3.receivers: 0 is not between 1 and 1000",
            "write 1",
        ),
        (
            "format: openmsistream",
            "uploads.scope3.format: only kfd for now; the peer's wire format comes later",
            "write kfd",
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
        ("spool_max: 1GiB", "spool_max: only 20GiB for now; the spool comes later", "write 20GiB"),
        ("metrics: 127.0.0.1:9464", "metrics: only off for now; metrics come later", "write off"),
        (
            "catalogue: {x: 'postgresql://u:hunter2@h'}",
            "catalogue: only {} for now; catalogues come later",
            "write {}",
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


@pytest.mark.parametrize(
    ("upload", "download", "relation"),
    [("/a", "/a", "is also"), ("/a", "/a/b", "is inside"), ("/a/b", "/a", "is around")],
)
def test_routes_do_not_share_directories(
    tmp_path: Path, upload: str, download: str, relation: str
) -> None:
    routes = f"""\
uploads: {{u: {{directory: {upload}, topic: t}}}}
downloads: {{d: {{directory: {download}, topic: t}}}}
"""
    fix = "give each download a directory of its own, apart from those of other routes"
    assert faults(written(tmp_path, KAFKA, routes)) == [
        (f"kfd.yaml:4: downloads.d.directory: {download} {relation} that of uploads.u", fix)
    ]


def test_directories_with_a_common_beginning_are_not_nested(tmp_path: Path) -> None:
    routes = """\
uploads: {u: {directory: /srv/lab, topic: t}}
downloads: {d: {directory: /srv/lab2, topic: t}}
"""
    assert load(written(tmp_path, KAFKA, routes)).downloads


def test_downloads_do_not_share_a_group(tmp_path: Path) -> None:
    routes = """\
downloads:
  one: {directory: /one, topic: t}
  two: {directory: /two, topic: t, group: kfd-one}
"""
    assert faults(written(tmp_path, KAFKA, routes)) == [
        (
            "kfd.yaml:5: downloads.two.group: kfd-one is already the group of downloads.one",
            "give each download a group of its own, else each gets a part of the files",
        )
    ]


def test_all_faults_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        textwrap.dedent(
            """\
        kafka:
          bootstrap.servers: CHANGE-ME:9092
          acks: 1
        uploads:
          a: {directory: /a, topic: t}
          b:
            directory: b
            topc: t
        downloads:
          c: {directory: /a/c, topic: t}
          d: {directory: /d, topic: t}
          d: {directory: /e, topic: t}
        queue:
          size: 1KiB
        histroy: 90d
        """
        ),
    )
    assert [fault for fault, _ in faults(path)] == [
        "kfd.yaml:2: kafka.bootstrap.servers: still CHANGE-ME",
        "kfd.yaml:3: kafka.acks: kfd's own",
        "kfd.yaml:7: uploads.b.directory: 'b' is not an absolute path",
        "kfd.yaml:8: uploads.b.topc: unknown key",
        "kfd.yaml:10: downloads.c.directory: /a/c is inside that of uploads.a",
        "kfd.yaml:12: downloads.d: written twice",
        "kfd.yaml:14: queue.size: smaller than a chunk of 512KiB",
        "kfd.yaml:15: histroy: unknown key",
    ]


@pytest.mark.parametrize("text", ["", "uploads:\n", "kafka:\n"])
def test_a_broker_must_be_named(tmp_path: Path, text: str) -> None:
    fix = "write the HOST:PORT of a broker, or several with commas between"
    assert faults(written(tmp_path, text)) == [
        ("kfd.yaml:1: kafka.bootstrap.servers: missing", fix)
    ]


def test_a_file_that_is_a_list_is_no_configuration(tmp_path: Path) -> None:
    assert faults(written(tmp_path, "- a\n")) == [
        ("kfd.yaml:1: not a mapping", "write KEY: VALUE lines")
    ]


# --- kafka: properties and secrets


@pytest.mark.parametrize(
    "text", ["0123", "1e5", "yes", "null", "2024-01-01", "1:30", "0x1F", "5.", "~", "=", "off"]
)
def test_a_password_is_text_whatever_it_looks_like(tmp_path: Path, text: str) -> None:
    config = load(written(tmp_path, KAFKA, f"  sasl.password: {text}\n"))
    assert config.kafka_properties()["sasl.password"] == text


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_what_is_kfds_own_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, KAFKA, f"  {name}: hunter2\n")
    assert faults(path) == [(f"kfd.yaml:3: kafka.{name}: kfd's own", RESERVED[name])]


@pytest.mark.parametrize(
    "name",
    ["group.protocol", "session.timeout.ms", "linger.ms", "batch.size", "debug", "client.id"],
)
def test_other_properties_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    config = load(written(tmp_path, KAFKA, f"  {name}: consumer\n"))
    assert config.kafka_properties() == {"bootstrap.servers": "broker:9092", name: "consumer"}


FORMS = "write text, {file: PATH} or {credential: NAME}"


@pytest.mark.parametrize(
    ("value", "what", "fix"),
    [
        ("", "kafka.sasl.password: no value", "write one, or remove the line"),
        ("[hunter2]", "kafka.sasl.password: not text", FORMS),
        ("{fil: /hunter2}", "kafka.sasl.password: not text", FORMS),
        ("{file: hunter2}", "kafka.sasl.password: not an absolute path", FORMS),
        ("{file: /a, credential: hunter2}", "kafka.sasl.password: not text", FORMS),
        ("{file: [hunter2]}", "kafka.sasl.password: not text", FORMS),
        ("{credential: ../hunter2}", "kafka.sasl.password: not the name of a credential", FORMS),
        ('"hunter2\\0"', "kafka.sasl.password: holds a NUL", "librdkafka cannot take it"),
    ],
)
def test_what_is_no_property_is_not_quoted(tmp_path: Path, value: str, what: str, fix: str) -> None:
    path = written(tmp_path, KAFKA, f"  sasl.password: {value}\n")
    assert faults(path) == [(f"kfd.yaml:3: {what}", fix)]


@pytest.mark.parametrize(
    "text",
    [
        "kafka: {bootstrap.servers: 'b:1', sasl.password:hunter2}\n",
        "kafka: {bootstrap.servers: 'b:1', sasl.password: *hunter2}\n",
        "kafka: {bootstrap.servers: 'b:1', sasl.password: hunter2\n",
        "kafka:\n  bootstrap.servers: 'b:1'\n  sasl.password: 'hunter2\n",
        "kafka:\n  bootstrap.servers: 'b:1'\n  sasl.password hunter2\n",
        "kafka:\n  sasl.password: hunter2\n  error_cb: hunter2\n",
        "kafka: hunter2\n",
        "sasl.password: hunter2\n",
        "uploads: {a: {directory: /a, topic: t, sasl.password: hunter2}}\n",
        "catalogue: {a: 'postgresql://u:hunter2@h'}\n",
        "catalogue: postgresql://u:hunter2@h\n",
    ],
)
def test_no_slip_shows_a_secret(tmp_path: Path, text: str) -> None:
    for fault, fix in faults(written(tmp_path, text)):
        assert "hunter2" not in fault + fix


SECRET_NAMES = (
    "sasl.password",
    "sasl.pasword",
    "password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.config",
    "sasl.jaas.config",
)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_secrets_are_hidden_wherever_a_configuration_is_shown(tmp_path: Path, name: str) -> None:
    config = load(written(tmp_path, KAFKA, f"  {name}: hunter2\n"))
    for text in (show(config), repr(config), str(config), repr(config.kafka), f"{config.kafka}"):
        assert "hunter2" not in text
        assert f"{name}" in text
        assert "(hidden)" in text
    assert config.kafka_properties()[name] == "hunter2"


@pytest.mark.parametrize(
    "name",
    [
        "bootstrap.servers",
        "security.protocol",
        "sasl.mechanism",
        "sasl.username",
        "ssl.ca.location",
    ],
)
def test_what_helps_to_find_a_fault_is_shown(name: str) -> None:
    assert not is_secret(name)


def with_password_in(directory: Path, content: bytes) -> Config:
    (directory / "password").write_bytes(content)
    reference = f"  sasl.password: {{file: {directory}/password}}\n"
    return load(written(directory, KAFKA, reference))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_secret_in_a_file_is_read_when_asked_for(tmp_path: Path, end: bytes) -> None:
    config = with_password_in(tmp_path, b" hunter2 \xc3\xa9" + end)
    assert config.kafka_properties()["sasl.password"] == " hunter2 é"
    assert f"file: {tmp_path}/password" in show(config)


def unresolved(config: Config) -> KfdError:
    with pytest.raises(KfdError) as caught:
        config.kafka_properties()
    assert "hunter2" not in str(caught.value) + caught.value.fix
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"hunter2\xff", "not text in UTF-8"),
        (b"hunter2\0", "not text in UTF-8"),
        (b"hunter2" * 10_000, "longer than 64 KiB"),
    ],
)
def test_a_file_that_holds_no_secret(tmp_path: Path, content: bytes, what: str) -> None:
    error = unresolved(with_password_in(tmp_path, content))
    assert str(error) == f"kfd.yaml:3: kafka.sasl.password: {what}: {tmp_path}/password"
    assert error.exit_code == ExitCode.CONFIGURATION


def test_a_secret_that_is_not_there(tmp_path: Path) -> None:
    config = with_password_in(tmp_path, b"hunter2")
    (tmp_path / "password").unlink()
    error = unresolved(config)
    path = tmp_path / "password"
    assert str(error) == (
        f"kfd.yaml:3: kafka.sasl.password: not readable: {path}: No such file or directory"
    )


def test_a_secret_that_may_not_be_read(tmp_path: Path) -> None:
    config = with_password_in(tmp_path, b"hunter2")
    (tmp_path / "password").chmod(0)
    with unprivileged():
        error = unresolved(config)
    assert isinstance(error, PermissionProblemError)
    assert str(error) == f"kfd.yaml:3: kafka.sasl.password: not readable: {tmp_path}/password"


def test_a_credential_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(written(tmp_path, KAFKA, "  sasl.password: {credential: kafka-password}\n"))
    assert "credential: kafka-password" in show(config)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    error = unresolved(config)
    assert str(error) == (
        "kfd.yaml:3: kafka.sasl.password: there are no credentials, "
        "$CREDENTIALS_DIRECTORY is not set"
    )
    assert error.fix == "systemctl edit kfd -> [Service] LoadCredential=kafka-password:PATH"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "kafka-password").write_text("hunter2\n")
    assert config.kafka_properties()["sasl.password"] == "hunter2"


# --- show, flags, values


def test_what_is_shown_reads_back_as_the_same(tmp_path: Path) -> None:
    config = load(written(tmp_path, uncommented()))
    assert load(written(tmp_path, show(config))) == config
    assert pickle.loads(pickle.dumps(config.uploads)) == config.uploads


def test_flags_make_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = from_flags("b:1", "t", Path("in"), Path("x/../out"))
    upload, download = config.uploads["upload"], config.downloads["download"]
    assert config.kafka_properties() == {"bootstrap.servers": "b:1"}
    assert (upload.directory, upload.topic) == (tmp_path / "in", "t")
    assert (download.directory, download.topic) == (tmp_path / "out", "t")
    assert (download.layout.text, download.group) == ("{path}", "kfd-download")
    assert list(from_flags("b:1", "t", Path("in"), None).downloads) == []
    assert list(from_flags("b:1", "t", None, Path("out")).uploads) == []


def test_faults_of_flags_name_the_option() -> None:
    with pytest.raises(ConfigError) as caught:
        from_flags("b:1", "a b", Path("/a"), Path("/c"))
    assert [str(fault) for fault in caught.value.faults] == [
        "--topic: uploads.upload.topic: 'a b' is not the name of a topic",
        "--topic: downloads.download.topic: 'a b' is not the name of a topic",
    ]
    with pytest.raises(ConfigError) as caught:
        from_flags("b:1", "t", Path("/a"), Path("/a/b"))
    assert str(caught.value) == (
        "--download: downloads.download.directory: /a/b is inside that of uploads.upload"
    )
    with pytest.raises(UsageError, match="nothing to do"):
        from_flags("b:1", "t", None, None)


def test_values_make_a_configuration_without_places() -> None:
    config = from_values({"kafka": {"bootstrap.servers": "b:1"}})
    assert config.where("kafka") == ""
    with pytest.raises(ConfigError) as caught:
        from_values({"kafka": {"bootstrap.servers": "b:1"}, "pools": {"x": "1"}})
    assert str(caught.value) == "pools.x: unknown key"


def test_units_and_errors_come_without_pydantic() -> None:
    code = "import sys, kfd.units, kfd.errors, kfd.yamlfile; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=False).returncode == 0
