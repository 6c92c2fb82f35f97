"""Transfers that somebody cancels before they are in Kafka.

The file stays known as the version that was sent last: a watcher that finds it unchanged doesn't
send it again. Runs in the ledger's writer thread inside its transaction.
"""

from __future__ import annotations

import time
from sqlite3 import Connection

from kfd.daemon.ledger import outgoing, tally
from kfd.daemon.ledger.outgoing import Outgoing
from kfd.daemon.ledger.tally import Ended


def cancel(writer: Connection, number: int, reason: str) -> Outgoing | None:
    """Cancel the transfer with this id; as it was, None if it had ended already, or is in Kafka.

    Killed before this is durable: it goes on at the next start.
    """
    now = time.time()
    cancelled = writer.execute(
        "UPDATE outgoing SET state = 'cancelled', ended_at = ?, reason = ?, fix = ''"
        " WHERE id = ? AND state IN ('queued', 'sending')",
        (now, reason, number),
    ).rowcount
    if not cancelled:
        return None
    (row,) = outgoing.by_id(writer, [number])
    ended = Ended(row.route, row.topic, "cancelled", row.size, row.path)
    tally.count(writer, "upload", [ended], now)
    return row
