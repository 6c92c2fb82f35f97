"""What systemd is told (sd_notify): readiness, one line of status, the watchdog's food, the end."""

from __future__ import annotations

import os
import time

from sdnotify import SystemdNotifier

from kfd.daemon.journal import one_line


class Notifier:
    """Talks to ``$NOTIFY_SOCKET``; does nothing where there is none. Any thread: each message is
    one datagram. Only :meth:`status` is the supervisor's."""

    def __init__(self) -> None:
        self._systemd = SystemdNotifier()
        self._status = ""

    def ready(self) -> None:
        """Stages run and the socket listens; or the configuration was read again."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again; :meth:`ready` says that it was, well or not."""
        # with the time, a later systemd can tell the READY after it from one before
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; sent when it is new."""
        # one line of ASCII: a name in it can't say anything else to systemd, and arrives at all
        shown = one_line(text).encode("ascii", "backslashreplace").decode()
        if shown != self._status:
            self._status = shown
            self._send(f"STATUS={shown}")

    def watchdog(self) -> None:
        """The daemon is alive."""
        self._send("WATCHDOG=1")

    def stopping(self, seconds: float) -> None:
        """The end has begun, and takes up to ``seconds``, whatever ``TimeoutStopSec=`` says."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def _send(self, message: str) -> None:
        self._systemd.notify(message)


def watchdog_seconds() -> float | None:
    """The unit's ``WatchdogSec=``; None where there is none."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() else None


def watchdog_interval() -> float:
    """Seconds between two feedings: half of what systemd allows, at most 5."""
    return min(5.0, (watchdog_seconds() or 10.0) / 2)
