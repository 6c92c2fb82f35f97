"""A ``quit`` that can't end says what holds it up."""

from __future__ import annotations

import pytest

from tests.integration.conftest import MakeHost
from tests.support import eventually

pytestmark = pytest.mark.broker


def test_what_cannot_move_is_told_with_its_fix(make_host: MakeHost, topic: str) -> None:
    missing = f"{topic}-missing"
    host = make_host(topic=missing, receives=False, create_topics=False)
    host.start()
    host.put("run", b"1")
    eventually(lambda: ("run", "queued") in host.states("upload"), 30)
    eventually(lambda: host.status()["problems"] != [], 30)
    done = host.ctl("quit", "--timeout", "3s")
    assert done.returncode == 0
    assert "1 transfer (1 B) left to the next start" in done.stdout
    assert f"! out: 1 transfer can't move: topic {missing} does not exist" in done.stderr
    assert "kafka-topics.sh --create" in done.stderr
    assert "kfdctl quit --now" in done.stderr
    assert host.wait() == 0
