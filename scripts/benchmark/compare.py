"""What has changed since other results, beyond the spread of both."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.benchmark.report import SIDES, spread
from scripts.benchmark.results import Metric, Results


def compare(base: Results, new: Results) -> str:
    """A line for each figure whose spreads don't meet; the other sides tell of the machine."""
    if base.quick != new.quick:
        return "Not compared: one of the two is of --quick, which does less work."
    if base.rounds < 2 or new.rounds < 2:
        return "Not compared: one of the two has a single round, whose spread isn't known."
    lines = [line for metric in new.metrics for line in _changes(base, new, metric)]
    since = f"Since {base.date} ({base.versions.get('kfd', '?')})"
    if not lines:
        return f"{since}: nothing has changed beyond the spread."
    return "\n".join([f"{since}, beyond the spread of both:", *lines])


def _changes(base: Results, new: Results, metric: Metric) -> Iterator[str]:
    for side, name in SIDES.items():
        before = base.summary(metric.name, side)
        after = new.summary(metric.name, side)
        if before is None or after is None or not after.apart_from(before):
            continue
        change = after.median / before.median - 1
        verdict = "worse" if (change > 0) == metric.less_is_better else "better"
        yield (
            f"- {verdict}: {name}, {metric.title}: {spread(before)} -> {spread(after)}"
            f" {metric.unit} ({change:+.0%})"
        )
