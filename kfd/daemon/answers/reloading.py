"""Answers to those who want the configuration read again."""

from __future__ import annotations

from concurrent.futures import TimeoutError as NotDone

from kfd.control.reloading import ReloadReply
from kfd.daemon.reload import Reloader
from kfd.errors import TimedOutError
from kfd.unit import log_of

WAIT_SECONDS = 50.0  # kfdctl waits for a minute


class ReloadingAnswers:
    """Asks the reloader, and waits for what it says."""

    def __init__(self, reloader: Reloader) -> None:
        self._reloader = reloader

    def reload(self) -> ReloadReply:
        asked = self._reloader.ask()
        try:
            done = asked.result(WAIT_SECONDS)
        except NotDone:
            raise TimedOutError(
                "the reload isn't done yet: a disk or a share may hang",
                fix=f"kfdctl status, {log_of()}",
            ) from None
        return ReloadReply(
            str(self._reloader.path),
            *(done.added, done.changed, done.removed, done.applied, done.restart),
        )
