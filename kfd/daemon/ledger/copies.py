"""A copy of the ledger while it is in use: in the caller's thread, on its own connection."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from kfd.daemon.ledger import soundness
from kfd.errors import KfdError

_CHECK_SECONDS = 600.0  # to look through the copy


def copy(reader: sqlite3.Connection, target: Path) -> None:
    """Make ``target``, an empty file, a copy of the ledger as it is at one moment, in one file.

    A writer isn't held up. Raises :class:`KfdError`.
    """
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as made:
            made.execute("PRAGMA synchronous = OFF")  # whoever gets the copy makes it durable
            reader.backup(made)  # all pages in one step: one moment
            made.execute("PRAGMA journal_mode = DELETE")  # or its log would belong to it
            damage = soundness.damage(made, _CHECK_SECONDS)
    except sqlite3.Error as error:
        raise KfdError(
            f"the ledger can't be copied: {error}",
            where=str(target),
            fix="free space there, or look at the disk",
        ) from error
    if damage:
        raise KfdError(f"the copy is damaged: {damage}", fix="kfdctl doctor looks at the ledger")
