"""What ``kfdctl inspect topic --count`` prints."""

from __future__ import annotations

from collections.abc import Iterator

from kfd.ctl.render import count, cut, plain, say, table, width
from kfd.inspection.totals import Totals
from kfd.units import human_size


def tell(totals: Totals) -> None:
    """Totals by kind and by partition, and why records are bad."""
    what = f"{count(totals.records, 'record')}, {human_size(totals.size)}"
    say(cut(f"{totals.topic}: {what}, {count(len(totals.partitions), 'partition')}", width()))
    for line in _lines(totals):
        say(line)


def _lines(totals: Totals) -> Iterator[str]:
    kinds = [
        (one.kind.value, f"{one.records:,}", human_size(one.size), f"{one.begins:,}",
         f"{one.ends:,}", f"{one.aborts:,}")
        for one in totals.kinds if one.records
    ]  # fmt: skip
    if kinds:
        yield from table("KIND >RECORDS >SIZE >BEGINS >ENDS >ABORTS", kinds)
    partitions = [
        (str(one.partition), f"{one.low:,}", f"{one.high:,}", f"{one.start:,}",
         f"{one.records:,}", human_size(one.size))
        for one in totals.partitions
    ]  # fmt: skip
    yield from table(">PARTITION >LOW >HIGH >FROM >RECORDS >SIZE", partitions)
    for reason, number in sorted(totals.bad.items(), key=lambda one: -one[1]):
        yield f"! {count(number, 'bad record')}: {plain(reason)}"
