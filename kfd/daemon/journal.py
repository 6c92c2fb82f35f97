"""Logging for people and for the journal: one event a line.

Where stderr is the journal (a service), entries go to its native socket, with priority and fields
(``journald.py``), so that ``journalctl -p warning`` and ``journalctl KFD_TRANSFER=...`` work;
elsewhere stderr gets plain text with the time.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback

from kfd.daemon.journald import Journal, entries
from kfd.daemon.messageids import Message, about, about_of

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))


class JournalHandler(logging.Handler):
    """Gives each line to the journal, without waiting for it."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        about = about_of(record)
        message = one_line(record.getMessage())
        if about.fix:
            message += f" (fix: {one_line(about.fix)})"
        for entry in entries(_priority(record.levelno), message, about):
            self._journal.write(entry)

    def close(self) -> None:
        self._journal.close()
        super().close()


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        head = f"{self.formatTime(record)} {level}"
        line = head + one_line(record.getMessage())
        fix = about_of(record).fix
        return f"{line}\n{head}  fix: {one_line(fix)}" if fix else line


def set_up(*, verbose: bool) -> None:
    """Send all logging to the journal, or to stderr. Once, at start, before other threads."""
    root = logging.getLogger()
    root.handlers[:] = [_handler()]
    root.setLevel(logging.WARNING)
    logging.getLogger("kfd").setLevel(logging.DEBUG if verbose else logging.INFO)


def _handler() -> logging.Handler:
    if _is_journal():
        try:
            return JournalHandler(Journal())
        except OSError:  # a sandbox without it
            pass
    plain = logging.StreamHandler(sys.stderr)
    plain.setFormatter(_PlainFormatter())
    return plain


def _priority(level: int) -> int:
    """That of syslog(3)."""
    return next((priority for least, priority in _PRIORITIES if level >= least), 7)


def one_line(text: str) -> str:
    """``text`` without characters that would end the line or move a terminal's cursor."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def bug(
    log: logging.Logger, doing: str, error: BaseException, message: Message | None = None
) -> None:
    """Log an error that nobody expected, with what a report of it needs, and no traceback."""
    log.error("%s: %s: %s", doing, type(error).__name__, error, extra=about(message))
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
