"""Does this host's clock agree with the brokers'? Told by a record whose acknowledgement is in the
ledger: the brokers noted when they appended it. Nothing is sent for it."""

from __future__ import annotations

from collections.abc import Iterator

from kfd.control.examination import Check
from kfd.daemon.ledger import Ledger, soundness
from kfd.errors import KfdError
from kfd.examination.checks import doubtful, skipped, well
from kfd.kafka import BrokerAwayError, ClusterView
from kfd.units import human_duration

TOLERATED_SECONDS = 60.0
_NO_SIGN = "no file that was sent lately is in a topic with the brokers' times (LogAppendTime)"


def look_at_clock(ledger: Ledger, cluster: ClusterView) -> Iterator[Check]:
    """Between two clocks lie the way to the broker and a second until it is noted."""
    last = soundness.last_acknowledged(ledger.reader())
    if last is None:
        yield skipped("clock", _NO_SIGN)
        return
    try:
        appended = cluster.appended_at(last.topic, last.partition, last.offset)
    except BrokerAwayError as error:
        yield skipped("clock", f"the brokers don't answer: {error}")
        return
    except KfdError as error:
        yield skipped("clock", f"the last record could not be read: {error}")
        return
    if appended is None:
        yield skipped("clock", _NO_SIGN)
        return
    skew = last.at - appended
    shown = human_duration(abs(round(skew, 1)))
    if abs(skew) <= TOLERATED_SECONDS:
        yield well("clock", f"agrees with the brokers' within {max(1.0, abs(skew)):.0f} s")
        return
    side = "ahead of" if skew > 0 else "behind"
    yield doubtful(
        "clock", f"this host's is {shown} {side} the brokers'",
        "let both keep time: systemctl enable --now systemd-timesyncd, or chrony",
    )  # fmt: skip
