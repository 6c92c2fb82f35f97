"""Values and names as they are written in Transact-SQL.

CasJobs takes whole statements, without parameters: what stands here is all that is between the
name of a file and the language. Every text goes through :func:`literal`, every name through
:func:`identifier`.
"""

from __future__ import annotations

from datetime import UTC, datetime


def literal(text: str) -> str:
    """``N'text'``, with every quote doubled. What isn't printable (control characters, NUL and line
    ends among them, lone surrogates) is shown as ``\\xNN``, so that a statement is one line of
    characters that every layer on the way takes for what they are."""
    shown = text if text.isprintable() else "".join(map(_shown, text))
    return "N'" + shown.replace("'", "''") + "'"


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    # A byte that isn't UTF-8 is such a surrogate in Python's names of files.
    byte = "\udc80" <= character <= "\udcff"
    encoded = character.encode("utf-8", "surrogateescape" if byte else "surrogatepass")
    return "".join(f"\\x{value:02x}" for value in encoded)


def identifier(name: str) -> str:
    """``[name]``, with every closing bracket doubled."""
    return "[" + name.replace("]", "]]") + "]"


def qualified(name: str) -> str:
    """``[TABLE]``, or ``[SCHEMA].[TABLE]``."""
    return ".".join(map(identifier, name.split(".")))


def binary(value: bytes) -> str:
    """``0x...``; of no bytes, too."""
    return "0x" + value.hex()


def moment(time: datetime | None) -> str:
    """A DATETIME2, in UTC. NULL has its type as well: of a column in which all are NULL, the server
    would else make integers, and refuse them as times."""
    if time is None:
        return "CAST(NULL AS DATETIME2(6))"
    utc = time.astimezone(UTC).replace(tzinfo=None)
    return f"CAST({literal(utc.isoformat(timespec='microseconds'))} AS DATETIME2(6))"
