"""What a sink remembers from one life of the daemon to the next."""

from __future__ import annotations

from typing import Protocol


class Memory(Protocol):
    """One piece of text of one sink, in the ledger. Used in the sink's own thread."""

    def recall(self) -> str:
        """What was remembered last; empty if nothing was."""
        ...

    def remember(self, text: str) -> None:
        """Keep this instead; durable when it returns."""
        ...
