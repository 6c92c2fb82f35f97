"""As whom files are used: what their modes allow a user, without being that user.

Access control lists aren't read: where they grant more than the mode, this says too little.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from kfd.users import name_of


@dataclass(frozen=True, slots=True)
class Account:
    """A user with all its groups."""

    name: str
    uid: int
    gids: frozenset[int]

    @classmethod
    def own(cls) -> Account:
        """That of this process."""
        gids = frozenset((os.getegid(), *os.getgroups()))
        return cls(name_of(os.geteuid()), os.geteuid(), gids)

    @classmethod
    def named(cls, name: str) -> Account | None:
        """That of a user of this host, if there is one of this name."""
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            return None
        return cls(name, user.pw_uid, frozenset(os.getgrouplist(name, user.pw_gid)))

    def may(self, status: os.stat_result, wanted: int) -> bool:
        """Whether the mode grants ``wanted``, of ``os.R_OK | os.W_OK | os.X_OK``."""
        if self.uid == 0:
            return True
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid == self.uid:
            mode >>= 6
        elif status.st_gid in self.gids:
            mode >>= 3
        return mode & wanted == wanted

    def reaches(self, path: Path) -> Path | None:
        """The first directory on the way to ``path`` that may not be searched; None: none."""
        for parent in reversed(path.parents):
            if not self.may(parent.stat(), os.X_OK):
                return parent
        return None
