"""Handing files over to the daemon: as open descriptors, as many at once as a request holds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from kfd.control import (
    MAX_DESCRIPTORS,
    File,
    GetStatusParameters,
    GetStatusReply,
    SendParameters,
    SendReply,
    Sent,
    Until,
)
from kfd.ctl.client import Client, encode_request
from kfd.ctl.picked import Picked, described, open_file
from kfd.ctl.render import ProgressLine
from kfd.ctl.stdin import collect
from kfd.errors import KfdError
from kfd.marshal import to_json
from kfd.units import human_size
from kfd.varlink import MAX_REQUEST, encode


@dataclass(frozen=True, slots=True)
class Order:
    """What to do with the files: the options of ``kfdctl send``."""

    until: Until
    name: bytes | None
    request: SendParameters  # without its files
    timeout: float | None


def batches(order: Order, files: Sequence[Picked]) -> Iterator[list[tuple[Picked, File]]]:
    """As many files as a request may hold: by their descriptors, and by its size."""
    empty = len(encode_request(order.request))
    batch: list[tuple[Picked, File]] = []
    size = empty
    for picked in files:
        file = described(picked, len(batch), order.name)
        own = len(encode(to_json(file)))
        if batch and (len(batch) == MAX_DESCRIPTORS or size + own > MAX_REQUEST):
            yield batch
            batch, size = [], empty
            file = replace(file, descriptor=0)
        batch.append((picked, file))
        size += own
    if batch:
        yield batch


def hand_over(client: Client, order: Order, batch: Sequence[tuple[Picked, File]]) -> Sequence[Sent]:
    """Hand over a batch; one answer for each file, also for those that can't be opened."""
    answers: dict[int, Sent] = {}
    files: list[File] = []
    with ExitStack() as opened:
        descriptors: list[int] = []
        for place, (picked, file) in enumerate(batch):
            try:
                descriptors.append(_opened(client, picked, opened))
            except KfdError as error:
                answers[place] = _not_opened(picked, error)
            else:
                files.append(replace(file, descriptor=len(files)))
        answered = iter(_pass(client, order, files, descriptors) if files else ())
    return [answers.get(place) or next(answered) for place in range(len(batch))]


def _opened(client: Client, picked: Picked, opened: ExitStack) -> int:
    if picked.standard_input:
        limit = client.call(GetStatusParameters(), GetStatusReply).status.spool_max
        return collect(limit, opened)
    descriptor = open_file(picked)
    opened.callback(os.close, descriptor)
    return descriptor


def _not_opened(picked: Picked, error: KfdError) -> Sent:
    what = str(error).removeprefix(f"{picked.shown}: ")
    return Sent(
        None, "", "", picked.shown, 0, refused=what, fix=error.fix, exit_code=int(error.exit_code)
    )


def _pass(
    client: Client, order: Order, files: Sequence[File], descriptors: Sequence[int]
) -> Sequence[Sent]:
    """What the daemon can't read later it copies first: that may take long, and say nothing."""
    line = ProgressLine()
    size = sum(os.fstat(descriptor).st_size for descriptor in descriptors)
    line.show(f"Handing over {human_size(size)}   (Ctrl-C gives it up)")
    try:
        request = replace(order.request, files=files)
        return client.call(request, SendReply, descriptors, timeout=None).files
    finally:
        line.clear()
