"""Wrong configurations and places: the exit code, what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.daemon import Daemon

CONFIGURATION, PERMISSION = 78, 77
FIRST_LINES = "kafka:\n  bootstrap.servers: 127.0.0.1:1\n"  # the text of a case begins on line 3


def said(daemon: Daemon) -> list[str]:
    """The errors in the log, without times."""
    lines = [line.partition("error: ")[2].strip() for line in daemon.log().splitlines()]
    return [line for line in lines if line]


def refuses(home: Path, text: str | None, code: int) -> list[str]:
    """Start a daemon with this configuration: it must end at once; what it says."""
    with Daemon(home, "127.0.0.1:1") as daemon:
        if text is None:
            daemon.config.unlink()
        else:
            daemon.config.write_text(FIRST_LINES + text)
        daemon.spawn()
        assert daemon.wait(20) == code
        assert "Traceback" not in daemon.log()
        assert not daemon.socket.exists()
        return said(daemon)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "uploads:\n  out: {directory: /srv, topc: t}\n",
            ["kfd.yaml:4: uploads.out.topc: unknown key", 'fix: did you mean "topic"?'],
        ),
        (
            "chunk_size: 3KiB\nquue: 5\n",  # all faults at once
            [
                "kfd.yaml:3: chunk_size: '3KiB' is not a power of two from 1KiB to 64MiB",
                "fix: did you mean 2KiB?",
                "kfd.yaml:4: quue: unknown key",
                'fix: did you mean "queue"?',
            ],
        ),
        (
            "uploads:\n  out: {directory: /srv, topic: t, then: remove}\n",
            [
                "kfd.yaml:4: uploads.out.then: neither keep nor delete nor {move: DIR}",
                "fix: write keep, delete, or {move: /srv/done}",
            ],
        ),
        (
            "uploads:\n  out: {directory: /srv/a, topic: t}\n"
            "downloads:\n  in: {directory: /srv/a/b, topic: t}\n",
            [
                "kfd.yaml:6: downloads.in.directory: /srv/a/b is inside that of uploads.out",
                "fix: give each download a directory of its own, apart from those of other routes",
            ],
        ),
        (
            "  acks: 1\n",
            [
                "kfd.yaml:3: kafka.acks: kfd's own",
                "fix: kfd waits for every acknowledgement itself, without loss or reordering",
            ],
        ),
        (
            "  no.such.property: 1\n",
            [
                "kfd.yaml:3: kafka.no.such.property: no such property",
                "fix: see librdkafka's CONFIGURATION.md",
            ],
        ),
        (
            "  sasl.password: {file: /nonexistent/password}\n",
            [
                "kfd.yaml:3: kafka.sasl.password: not readable: /nonexistent/password:"
                " No such file or directory",
                "fix: write the secret into that file, readable by the user of kfd only",
            ],
        ),
        (
            "origin: ../escaped\n",
            [
                "kfd.yaml:3: origin: '../escaped' is not a name",
                "fix: a letter or digit, then up to 63 of A-Z a-z 0-9 . _ -",
            ],
        ),
        (
            "uploads: [\n",
            [
                "kfd.yaml:4: not valid YAML",
                "fix: check indentation, brackets and quotes up to this line",
            ],
        ),
    ],
)
def test_wrong_configuration(tmp_path: Path, text: str, lines: list[str]) -> None:
    assert refuses(tmp_path, text, CONFIGURATION) == lines


def test_missing_configuration(tmp_path: Path) -> None:
    assert refuses(tmp_path, None, CONFIGURATION) == [
        f"{tmp_path}/kfd.yaml: no such file",
        "fix: write it, or name another",
    ]


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Not even where the value itself is what is wrong."""
    text = "  sasl.password: s3cret\n  security.protocol: nonsense\n  sasl.username: [s3cret]\n"
    assert "s3cret" not in "".join(refuses(tmp_path, text, CONFIGURATION))


def a_file_for_a_directory(place: Path) -> None:
    place.write_bytes(b"")


def a_file_for_kfd(place: Path) -> None:
    place.mkdir()
    (place / ".kfd").write_bytes(b"")


def a_symlink_for_kfd(place: Path) -> None:
    place.mkdir()
    (place / ".kfd").symlink_to("/tmp")


@pytest.mark.parametrize("spoil", [a_file_for_a_directory, a_file_for_kfd, a_symlink_for_kfd])
def test_unusable_download_directory(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    place = tmp_path / "down"
    spoil(place)
    what, fix = refuses(
        tmp_path, f"downloads:\n  in: {{directory: {place}, topic: t}}\n", PERMISSION
    )
    assert str(place) in what
    assert fix.startswith("fix: ")


def test_unusable_state_directory(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"")
    what, fix = refuses(tmp_path, "", PERMISSION)
    assert what.startswith(f"{tmp_path}/state")
    assert fix == "fix: give it to the daemon's user, or choose another with --state"


def test_ledger_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ledger.db").write_bytes(b"garbage " * 1000)
    what, fix = refuses(tmp_path, "", CONFIGURATION)
    assert what.startswith(f"{tmp_path}/state/ledger.db: this is not a ledger")
    assert fix == "fix: restore it from a backup, or move it away to start with an empty one"


def test_origin_stays_as_it_was(tmp_path: Path) -> None:
    with Daemon(tmp_path, "127.0.0.1:1", origin="scope3") as daemon:
        daemon.start()
        assert daemon.terminate() == 0
        daemon.configure("127.0.0.1:1", origin="scope4")
        daemon.spawn()
        assert daemon.wait(20) == CONFIGURATION
        what, fix = said(daemon)
        assert "origin is 'scope4', but this ledger has sent as 'scope3'" in what
        assert fix.startswith("fix: set origin: scope3")
        daemon.configure("127.0.0.1:1")
        daemon.start()
        assert daemon.status()["origin"] == "scope3"


def test_configuration_without_routes_is_valid(tmp_path: Path) -> None:
    """There is nothing to do, but control works; no broker is needed for that either."""
    with Daemon(tmp_path, "127.0.0.1:1") as daemon:
        daemon.start()
        assert (daemon.status()["uploads"], daemon.status()["downloads"]) == ([], [])
        refused = daemon.ctl("send", daemon.config)
        assert refused.returncode == 2
        assert "there is no upload route" in refused.stderr
        assert daemon.ctl("quit").returncode == 0
        assert daemon.wait() == 0


@pytest.mark.parametrize("kind", ["upload in download", "download in upload"])
def test_directories_nested_by_a_link_are_refused(tmp_path: Path, kind: str) -> None:
    """A daemon that watches what it publishes would feed itself."""
    inner, outer = tmp_path / "outer" / "inner", tmp_path / "outer"
    inner.mkdir(parents=True)
    (tmp_path / "link").symlink_to(inner)
    up, down = (tmp_path / "link", outer) if kind == "upload in download" else (
        outer, tmp_path / "link",
    )  # fmt: skip
    text = (
        f"uploads:\n  out: {{directory: {up}, topic: t}}\n"
        f"downloads:\n  in: {{directory: {down}, topic: t}}\n"
    )
    first, fix = refuses(tmp_path / "home", text, CONFIGURATION)
    assert "lies in" in first
    assert fix.startswith("fix: give each route a directory of its own")
