"""Which files of a route are its business: its patterns, and kfd's own directory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from pathspec import GitIgnoreSpec

from kfd.paths import RESERVED

_CACHED_DIRECTORIES = 4096


class Selection:
    """The gitignore patterns of a route. Paths are relative to its directory.

    As in git, what lies in an excluded directory cannot be included again, so that nobody need
    look into it.
    """

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._include = GitIgnoreSpec.from_lines(include, backend="simple")
        self._exclude = GitIgnoreSpec.from_lines(exclude, backend="simple")
        self._enters_cached = lru_cache(_CACHED_DIRECTORIES)(self._enters)

    def takes(self, path: bytes) -> bool:
        """Whether the file at ``path`` is to be sent."""
        if not self.enters(path.rpartition(b"/")[0]):
            return False
        text = _matchable(path)
        return not self._exclude.match_file(text) and self._include.match_file(text)

    def enters(self, directory: bytes) -> bool:
        """Whether there can be files to send below ``directory``; it is b"" for the route's own."""
        return self._enters_cached(directory)

    def _enters(self, directory: bytes) -> bool:
        if not directory:
            return True
        if directory == RESERVED or not self.enters(directory.rpartition(b"/")[0]):
            return False
        return not self._exclude.match_file(_matchable(directory) + "/")


def _matchable(path: bytes) -> str:
    # The patterns become regular expressions in which "." and "$" treat a newline as special.
    return path.decode("utf-8", "surrogateescape").replace("\n", "\N{SYMBOL FOR NEWLINE}")
