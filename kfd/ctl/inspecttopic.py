"""``kfdctl inspect topic``: what lies on a topic, read without a daemon and without a trace."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kfd.ctl.render import JSON_VERSION, print_json, width
from kfd.ctl.settings import Settings, verb
from kfd.ctl.texts import to_file
from kfd.ctl.transfers import check_ids
from kfd.errors import UsageError
from kfd.marshal import to_json

if TYPE_CHECKING:
    from kfd.ctl.topicsource import Opened
    from kfd.inspection.record import Look, Record

_KINDS = ("kfd", "openmsistream", "receipts", "bad", "foreign")  # as Kind, which costs msgpack


@dataclass(frozen=True, slots=True)
class Asked:
    """Where to read, and which records."""

    topic: str
    bootstrap: str | None
    config: Path | None
    start: str
    follow: bool
    limit: int | None
    partition: tuple[int, ...]
    kind: tuple[str, ...]
    tid: tuple[str, ...]
    path: tuple[str, ...]
    origin: tuple[str, ...]

    def opened(self, settings: Settings) -> AbstractContextManager[Opened]:
        """The topic, being read."""
        from kfd.ctl.topicsource import opened  # noqa: PLC0415 - costs librdkafka

        return opened(
            self.topic, self.bootstrap, self.config, self.start, self.partition, self.follow,
            settings.connect_timeout,
        )  # fmt: skip


_OPTIONS = (
    click.argument("topic", metavar="TOPIC"),
    click.option("--bootstrap", metavar="HOST:PORT", help="A broker."),
    click.option(
        "--config", metavar="FILE", type=click.Path(path_type=Path, readable=False),
        help="The brokers, logins and secrets of a kfd.yaml.  [default: /etc/kfd/kfd.yaml]",
    ),
    click.option(
        "--from", "start", metavar="WHERE", default="earliest", show_default=True,
        help="earliest, latest, an offset, a time (2024-05-17T14:00), or how long ago (5m).",
    ),
    click.option(
        "--partition", type=click.IntRange(0), multiple=True, metavar="N", help="Only this one."
    ),
    click.option("--follow", is_flag=True, help="Go on with what comes."),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many records."),
    click.option("--kind", type=click.Choice(_KINDS), multiple=True, help="Only these."),
    click.option("--tid", metavar="ID", multiple=True, help="Only of this transfer."),
    click.option(
        "--path", metavar="PATTERN", multiple=True,
        help="Only of files whose path matches, as *.trc or run42/*.",
    ),
    click.option("--origin", metavar="NAME", multiple=True, help="Only what this host sent."),
)  # fmt: skip


def _reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@_reading_options
@click.option("--count", "counts", is_flag=True, help="Only say how many there are.")
@click.option("--extract", metavar="ID", help="Write this transfer to a file.")
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(allow_dash=True), callback=to_file,
    help="With --extract: that file; - is stdout.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="With -o: replace FILE.")
@verb
def topic(
    settings: Settings,
    counts: bool,
    extract: str | None,
    output: Path | None,
    overwrite: bool,
    **where: Any,
) -> None:
    """Print the records on TOPIC, up to where it ends now.

    Each with partition and offset, time, kind, size and what it says: kfd's own, openmsistream's,
    receipts, those that break their format, and foreign ones. No group is joined and nothing is
    committed. With --json, each line is a record.

    An ID is the end of a transfer's id, or all 32 digits. Of kfd's records only the first of a
    transfer has its path and origin: --path and --origin choose the others along with it.
    """
    asked = Asked(**where)
    check_ids([*asked.tid, *([extract] if extract else [])])
    _check(counts, extract, output, overwrite, asked)
    if extract is not None and output is not None:
        from kfd.ctl.extract import extract_transfer  # noqa: PLC0415 - costs msgpack

        with asked.opened(settings) as source:
            extract_transfer(settings, source, extract, output, overwrite)
    elif counts:
        _count(settings, asked)
    else:
        _print(settings, asked)


def _check(
    counts: bool, extract: str | None, output: Path | None, overwrite: bool, asked: Asked
) -> None:
    """What doesn't go together."""
    if (extract is None) != (output is None):
        raise UsageError("--extract and -o go together", fix="--extract ID -o FILE")
    if overwrite and output is None:
        raise UsageError("--overwrite goes with -o", fix="--extract ID -o FILE --overwrite")
    chosen = asked.kind or asked.tid or asked.path or asked.origin or asked.limit
    if extract is not None and (counts or chosen):
        raise UsageError(
            "--extract goes without --count, --limit and what chooses records",
            fix="--from, --partition and --follow go with it",
        )
    if counts and asked.follow:
        raise UsageError("--count ends where the topic does", fix="leave --follow out")


def _print(settings: Settings, asked: Asked) -> None:
    from kfd.ctl.recordlines import lines  # noqa: PLC0415 - costs msgpack
    from kfd.inspection.description import describe  # noqa: PLC0415 - likewise

    columns = width()
    with asked.opened(settings) as source:
        for batch in _chosen(source, asked):
            shown = (describe(record, look) for record, look in batch)
            if settings.as_json:
                text = [_document(to_json(one)) for one in shown]
            else:
                text = [line for one in shown for line in lines(one, columns)]
            if text:
                source.say("\n".join(text))


def _document(record: object) -> str:
    return json.dumps({"version": JSON_VERSION, "record": record}, ensure_ascii=False)


def _count(settings: Settings, asked: Asked) -> None:
    from kfd.ctl.totals import tell  # noqa: PLC0415 - costs msgpack
    from kfd.inspection.totals import Counting, PartitionTotal, Totals  # noqa: PLC0415 - likewise

    with asked.opened(settings) as source:
        partitions = [
            PartitionTotal(one.partition, one.low, one.high, one.start) for one in source.spans
        ]
        counting = Counting(Totals(asked.topic, partitions=partitions))
        for batch in _chosen(source, asked):
            for record, look in batch:
                counting.add(record, look)
    if settings.as_json:
        print_json(totals=counting.totals)
    else:
        tell(counting.totals)


def _chosen(source: Opened, asked: Asked) -> Iterator[list[tuple[Record, Look]]]:
    """The records that are wanted, and what they are, up to the limit."""
    from kfd.inspection.choice import Choice  # noqa: PLC0415 - costs msgpack
    from kfd.inspection.record import Kind, Recognizer  # noqa: PLC0415 - likewise

    choice = Choice([Kind(one) for one in asked.kind], asked.tid, asked.path, asked.origin)
    look = Recognizer(asked.topic, source.reader.topic_id, asked.tid).look
    left = asked.limit
    for batch in source.batches():
        looks = ((record, look(record)) for record in batch)
        wanted = [one for one in looks if choice.takes(one[1])]
        yield wanted[:left]
        if left is not None:
            left -= len(wanted)
            if left <= 0:
                return
