"""How the users of this host are called."""

from __future__ import annotations

import pwd


def name_of(uid: int) -> str:
    """The user's name, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
