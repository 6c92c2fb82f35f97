"""Where the daemon is in its life, as ``status`` tells it."""

from __future__ import annotations

import pytest

from kfd.control import DaemonState
from kfd.daemon.life import Life

ORDER = [
    DaemonState.STARTING, DaemonState.RUNNING, DaemonState.DRAINING, DaemonState.STOPPING
]  # fmt: skip


def test_it_goes_from_start_to_stop() -> None:
    life = Life()
    for state in ORDER:
        life.reach(state)
        assert life.state(degraded=False) is state
        assert life.ending == (state in ORDER[2:])


@pytest.mark.parametrize("state", ORDER)
def test_only_at_work_it_is_called_degraded(state: DaemonState) -> None:
    life = Life()
    life.reach(state)
    shown = DaemonState.DEGRADED if state is DaemonState.RUNNING else state
    assert life.state(degraded=True) is shown


def test_it_never_goes_back() -> None:
    life = Life()
    life.reach(DaemonState.STOPPING)  # by a signal, while a quit begins to drain
    life.reach(DaemonState.DRAINING)
    life.reach(DaemonState.RUNNING)
    assert life.state(degraded=False) is DaemonState.STOPPING
