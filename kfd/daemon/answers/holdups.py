"""What keeps files from moving now: a pause, or what is wrong with their route, or with all."""

from __future__ import annotations

from dataclasses import replace

from kfd.control import Direction, Problem, State, Transfer
from kfd.daemon.context import Context
from kfd.daemon.health import SENDING
from kfd.daemon.topics.reports import key_of, receipts_key_of
from kfd.receipts import topic_of

_OF_ALL = ("kafka", "ledger")  # scopes of problems that hold up every route


class HoldUps:
    """Asked in the control server's threads."""

    def __init__(self, context: Context) -> None:
        self._health = context.health
        self._pauses = context.pauses

    def told(self, transfer: Transfer) -> Transfer:
        """The transfer, with the reason why it doesn't move if that is so."""
        found = self._of(transfer)
        if found is None:
            return transfer
        before = f"; before: {transfer.reason}" if transfer.reason else ""
        return replace(transfer, reason=f"{found.text}{before}", fix=found.fix)

    def sending(self, route: str, topic: str) -> Problem | None:
        """Why nothing is sent by a route (empty: by none) to a topic, if that is so."""
        return (
            self._paused(route)
            or self._of_all()
            or self._health.first(route or topic, key_of(topic), SENDING)
        )

    def _of(self, transfer: Transfer) -> Problem | None:
        if transfer.state.ended:
            return None
        if transfer.direction is Direction.DOWNLOAD:
            paused = self._paused(transfer.route)
            return paused or self._of_all() or self._health.first(transfer.route)
        if transfer.state is State.IN_KAFKA:
            return self._of_all() or self._unconfirmed(transfer)
        return self.sending(transfer.route, transfer.topic)

    def _paused(self, route: str) -> Problem | None:
        since = self._pauses.since(route)
        if since is None:
            return None
        what = f"{route} is paused" if route else "what is sent without a route is paused"
        return Problem(route, what, f"kfdctl resume {route}".rstrip(), since)

    def _of_all(self) -> Problem | None:
        found = (self._health.first(scope) for scope in _OF_ALL)
        return next(filter(None, found), None)

    def _unconfirmed(self, transfer: Transfer) -> Problem | None:
        """Why no receiver's word of it can come."""
        topic = topic_of(transfer.topic)
        if topic is None:
            return None
        return self._health.first(transfer.route or transfer.topic, receipts_key_of(topic))
