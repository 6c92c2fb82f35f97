"""Lines of the log about one incoming transfer."""

from __future__ import annotations

import logging

from kfd.daemon.messageids import about
from kfd.paths import escape
from kfd.transfer import OpenTransfer

log = logging.getLogger(__name__)


def tell(level: int, route: str, transfer: OpenTransfer, what: str) -> None:
    """Log that ``what`` became of a transfer."""
    path = transfer.begin.path
    told = about(route=route, transfers=[(transfer.tid, path)])
    log.log(level, "%s: %s", escape(path), what, extra=told)
