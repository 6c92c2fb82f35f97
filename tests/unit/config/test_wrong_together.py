"""Lines that are wrong together, and files that say too little."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.unit.config.files import KAFKA, faults, written


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


@pytest.mark.parametrize("kind", ["uploads", "downloads"])
def test_files_do_not_go_among_receipts(tmp_path: Path, kind: str) -> None:
    routes = f"{kind}: {{a: {{directory: /srv, topic: lecroy_files.receipts}}}}\n"
    assert faults(written(tmp_path, KAFKA, routes)) == [
        (
            f"kfd.yaml:3: {kind}.a.topic: 'lecroy_files.receipts' is for receipts about the files"
            " on lecroy_files",
            "no topic of files ends with .receipts",
        )
    ]
