"""What openmsistream's own programs send, kfd publishes: whole, verified, at once or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import MakeHost
from tests.integration.host import Host
from tests.integration.oracle import Witness, digest
from tests.interop.peer import Peer
from tests.support import eventually

PEER: dict[str, Any] = {"format": "openmsistream"}


@pytest.fixture
def receiver(make_host: MakeHost) -> Host:
    """A daemon whose route takes the peer's records, not started."""
    return make_host("receiver", sends=False, download=PEER)


def write(directory: Path, **sizes: int) -> dict[bytes, bytes]:
    """Files of random content; ``a__b`` is b in the subdirectory a. Path → content."""
    made = {}
    for name, size in sizes.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
        made[os.fsencode(path.relative_to(directory))] = path.read_bytes()
    return made


def digests(files: dict[bytes, bytes]) -> dict[bytes, str]:
    return {path: digest(content) for path, content in files.items()}


def test_what_its_programs_send(receiver: Host, peer: Peer, tmp_path: Path) -> None:
    """A directory with subdirectories, large and small files, a new version that is shorter; a
    single file by the other program; and a watcher that sees nothing but whole files."""
    receiver.start()
    up = tmp_path / "up"
    files = write(up, large=9_000_001, small=1, run__a__one=65_536, run__two=200_000)
    versions = {path: {digest(content)} for path, content in files.items()}
    with Witness(receiver.down) as witness:
        with peer.uploads(up) as program:
            receiver.receives(*files)
            shorter = write(up, large=100_000)
            versions[b"large"].add(digest(shorter[b"large"]))
            eventually(lambda: receiver.published() == digests(files | shorter), 60)
            program.quit()
        single = write(tmp_path / "other", single=700_000)
        versions |= {path: {digest(content)} for path, content in single.items()}
        peer.upload_file(tmp_path / "other" / "single")
        receiver.receives(*single)
    witness.saw_only(versions)
    assert receiver.published() == digests(files | shorter | single)
    receiver.clean()
    assert receiver.incoming()["bad"] == {}


def test_restart_amid_its_files(receiver: Host, peer: Peer, tmp_path: Path) -> None:
    """Killed, and stopped in order, while its files come: each is published once, and whole."""
    up = tmp_path / "up"
    files = write(up, **{f"d{number}__file": 1_500_000 + number for number in range(6)})
    expected = {path: {digest(content)} for path, content in files.items()}
    receiver.start()
    with Witness(receiver.down) as witness, peer.uploads(up) as program:
        eventually(lambda: receiver.incoming()["receiving"] > 0)
        receiver.kill9()
        receiver.start()
        eventually(lambda: receiver.incoming()["records"] > 0)
        receiver.terminate()
        receiver.start()
        receiver.receives(*files)
        program.quit()
    witness.saw_only(expected)
    witness.saw_each_once()
    assert receiver.published() == digests(files)
    receiver.clean()
