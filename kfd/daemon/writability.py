"""Whether something can be made in a directory: asked before it is needed."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def unwritable(directory: Path) -> OSError | None:
    """Why nothing can be made there; None if something can."""
    try:
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            return OSError(errno.EROFS, os.strerror(errno.EROFS))
    except OSError as error:
        return error
    if os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        return None
    return OSError(errno.EACCES, os.strerror(errno.EACCES))
