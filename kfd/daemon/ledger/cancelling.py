"""Transfers that somebody cancels before they are in Kafka, or puts aside once they have failed.

The file stays known as the version that was sent last: a watcher that finds it unchanged doesn't
send it again. Runs in the ledger's writer thread inside its transaction.
"""

from __future__ import annotations

import time
from sqlite3 import Connection

from kfd.daemon.ledger import confirmations, outgoing, tally
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
    tally.count(writer, "upload", [_ended(row, "cancelled")], now)
    return row


def put_aside(writer: Connection, number: int, reason: str) -> None:
    """Let the transfer with this id be cancelled if it has failed: nobody minds it any more.

    It ends there, also where a receiver tells later that it has the file. Killed before this is
    durable: it has failed still.
    """
    now = time.time()
    failed = writer.execute(
        "UPDATE outgoing SET state = 'cancelled', ended_at = ?, fix = '',"
        " reason = ? || '; it had failed: ' || reason WHERE id = ? AND state = 'failed'",
        (now, reason, number),
    ).rowcount
    if failed:
        (row,) = outgoing.by_id(writer, [number])
        tally.uncount(writer, "upload", [_ended(row, "failed")])
        tally.count(writer, "upload", [_ended(row, "cancelled")], now)
        confirmations.drop(writer, [row.tid])


def _ended(row: Outgoing, state: str) -> Ended:
    return Ended(row.route, row.topic, state, row.size, row.path)
