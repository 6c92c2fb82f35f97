"""What systemd is told (sd_notify): readiness, one line of status, the watchdog's food, the end."""

from __future__ import annotations

import os

from sdnotify import SystemdNotifier

from kfd.daemon.journal import one_line


class Notifier:
    """Talks to ``$NOTIFY_SOCKET``; does nothing where there is none. Supervisor's thread only."""

    def __init__(self) -> None:
        self._systemd = SystemdNotifier()
        self._status = ""

    def ready(self) -> None:
        """Stages run and the socket listens."""
        self._send("READY=1")

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

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        self._systemd.notify(message)


def watchdog_interval() -> float:
    """Seconds between two feedings: half of what systemd allows, at most 5."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return min(5.0, int(microseconds) / 2e6) if microseconds.isdecimal() else 5.0
