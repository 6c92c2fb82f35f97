"""The unit that kfd runs as, and the drop-ins that people are told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from kfd.unit import drop_in, of_socket, writable


@pytest.mark.parametrize(
    ("socket", "unit"),
    [
        ("/run/kfd/kfd.sock", "kfd"),
        ("/run/kfd-lab2/kfd.sock", "kfd@lab2"),
        ("/run/user/1000/kfd/kfd.sock", "kfd"),
        ("/tmp/kfd-lab2/kfd.sock", "kfd"),
    ],
)
def test_unit_of_a_socket(socket: str, unit: str) -> None:
    assert of_socket(Path(socket)) == unit


def test_drop_ins_name_the_unit_and_that_it_must_be_restarted() -> None:
    assert (
        drop_in("SystemCallFilter=@chown", "kfd@lab2")
        == "systemctl edit kfd@lab2 -> [Service] SystemCallFilter=@chown;"
        " then systemctl restart kfd@lab2"
    )


def test_service_starts_though_a_directory_is_missing() -> None:
    assert "ReadWritePaths=-/data/a -/data/b;" in writable([Path("/data/a"), Path("/data/b")])
