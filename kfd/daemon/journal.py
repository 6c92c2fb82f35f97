"""Logging for people and for the journal: one line an event, on stderr.

Under systemd each line carries its priority (sd-daemon(3)), so that ``journalctl -p warning``
works; elsewhere it is plain text with the time.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        priority = next((p for level, p in _PRIORITIES if record.levelno >= level), 7)
        # one priority a line: a name with a line feed in it must not make up another one
        return f"<{priority}>{one_line(record.getMessage())}"


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"{self.formatTime(record)} {level}{one_line(record.getMessage())}"


def set_up(*, verbose: bool) -> None:
    """Send all logging to stderr. Once, at start, before other threads."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JournalFormatter() if _is_journal() else _PlainFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("kfd").setLevel(logging.DEBUG if verbose else logging.INFO)


def one_line(text: str) -> str:
    """``text`` without characters that would end the line or move a terminal's cursor."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def bug(log: logging.Logger, doing: str, error: BaseException) -> None:
    """Log an error that nobody expected, with what a report of it needs, and no traceback."""
    log.error("%s: %s: %s", doing, type(error).__name__, error)
    log.error("this is a bug in kfd, at %s", where(error))


def where(error: BaseException) -> str:
    """The places that an unexpected error went through, innermost first, for a bug report."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(
        f"{os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}"
        for frame in reversed(frames)
    )


def _is_journal() -> bool:
    """Whether stderr is the journal's own stream (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
