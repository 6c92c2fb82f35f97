"""The metrics: their names, labels and units. Names are for ever; dashboards are made of them.

Labels are names of configured routes with their topics, states and reasons: sets that no sender can
make grow. What was sent without a route, or by one that is gone, is under an empty route.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kfd.control import DaemonState, Direction, DownloadRoute, State, Status, UploadRoute
from kfd.control.catalogue import Catalogue
from kfd.daemon.ledger.queries import Tally
from kfd.daemon.metrics.measured import Measured

_ROUTE = ("route", "topic")

# Shown from the start, so that the first of them is an increase.
_SHOWN_OF_UPLOADS = (State.QUEUED, State.SENDING, State.IN_KAFKA, State.DELIVERED, State.FAILED)
_SHOWN_OF_DOWNLOADS = (State.PUBLISHED, State.QUARANTINED, State.EXPIRED)

_Labels = tuple[str, ...]
_Key = TypeVar("_Key", bound=_Labels)


def text(measured: Measured) -> str:
    """All of them, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Collected(measured))
    ProcessCollector(namespace="kfd", registry=registry)
    return generate_latest(registry).decode()


class _Collected(Collector):
    """What was measured, for a registry."""

    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    def collect(self) -> Iterator[Metric]:
        status, tallies = self._measured.status, self._measured.tallies
        yield from _of_the_daemon(status)
        yield from _of_disks(status, self._measured.ledger_size)
        yield from _of_uploads(status.uploads, tallies)
        yield from _of_downloads(status.downloads, tallies)
        yield from _of_catalogues(status.catalogues)


def _gauge(
    name: str, text: str, values: Mapping[_Key, float], labels: _Labels = ()
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(
    name: str, text: str, values: Mapping[_Key, float], labels: _Labels = ()
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _of_the_daemon(status: Status) -> Iterator[Metric]:
    build = {(status.version, status.origin): 1.0}
    yield _gauge("kfd_build_info", "Version and origin of this kfd.", build, ("version", "origin"))
    states = {(one.value,): float(one is status.state) for one in DaemonState}
    yield _gauge("kfd_state", "1 for the state that kfd is in.", states, ("state",))
    problems = Counter((one.scope, str(one.degrades).lower()) for one in status.problems)
    yield _gauge(
        "kfd_problems", "What is wrong now, as in kfdctl status.", problems, ("scope", "degrades")
    )
    single = {
        "kfd_threads": ("Threads of the process.", len(os.listdir("/proc/self/task"))),
        "kfd_brokers_up": ("Brokers that the cluster has now.", status.brokers_up),
        "kfd_brokers_known": ("The most brokers seen since the start.", status.brokers_known),
        "kfd_queue_records": ("Records read and not acknowledged yet.", status.queue_records),
        "kfd_queue_max_records": ("Records that may be so.", status.queue_records_max),
        "kfd_queue_bytes": ("Bytes read and not acknowledged yet.", status.queue_bytes),
        "kfd_queue_max_bytes": ("Bytes that may be so.", status.queue_bytes_max),
        "kfd_quarantine_transfers": ("Transfers that wait in quarantine.", status.quarantine),
    }
    for name, (text, value) in single.items():
        yield _gauge(name, text, {(): value})


def _of_disks(status: Status, ledger_size: int) -> Iterator[Metric]:
    single = {
        "kfd_disk_free_bytes": ("Free on the fullest disk kfd writes to.", status.disk_free),
        "kfd_spool_bytes": ("Copies held in the spool.", status.spool_used),
        "kfd_spool_max_bytes": ("Bytes the spool may take.", status.spool_max),
        "kfd_quarantine_bytes": ("Contents held in quarantine.", status.quarantine_used),
        "kfd_quarantine_max_bytes": ("Bytes they may take.", status.quarantine_max),
        "kfd_ledger_bytes": ("The ledger on disk.", ledger_size),
    }
    for name, (text, value) in single.items():
        yield _gauge(name, text, {} if value is None else {(): value})


def _of_uploads(routes: Sequence[UploadRoute], tallies: Sequence[Tally]) -> Iterator[Metric]:
    configured = {(one.route, one.topic): one for one in routes if one.directory is not None}
    own = _of_direction(Direction.UPLOAD, tallies, configured)
    counts = _summed(own, _count, configured, _SHOWN_OF_UPLOADS)
    sizes = _summed(own, _size, configured, _SHOWN_OF_UPLOADS)
    in_state = (*_ROUTE, "state")
    ended = {State.DELIVERED}  # what can't leave its state again, so that it only grows
    yield _gauge(
        *("kfd_upload_transfers", "Transfers that are in a state now."),
        *(_but(counts, ended), in_state),
    )
    yield _gauge(
        "kfd_upload_bytes", "Bytes of the transfers in a state.", _but(sizes, ended), in_state
    )
    yield _counter(
        *("kfd_upload_delivered_transfers_total", "Transfers that receivers have confirmed."),
        *(_only(counts, State.DELIVERED), _ROUTE),
    )
    yield _counter(
        *("kfd_upload_delivered_bytes_total", "Their bytes."),
        *(_only(sizes, State.DELIVERED), _ROUTE),
    )
    yield _gauge(
        *("kfd_upload_rate_bytes_per_second", "Acknowledged by Kafka over the last 5 s."),
        *({key: one.bytes_per_second for key, one in configured.items()}, _ROUTE),
    )
    yield _gauge(
        *("kfd_upload_paused", "1 where the route is paused."),
        *({key: float(one.paused_since is not None) for key, one in configured.items()}, _ROUTE),
    )
    bad = {
        (one.topic, reason): float(count)  # once for each topic: routes may share one
        for one in configured.values()
        for reason, count in one.bad.items()
    }
    yield _counter(
        *("kfd_upload_bad_receipts_total", "Receipts that were not used."),
        *(bad, ("topic", "reason")),
    )


def _of_downloads(routes: Sequence[DownloadRoute], tallies: Sequence[Tally]) -> Iterator[Metric]:
    by_key = {(one.route, one.topic): one for one in routes}
    own = _of_direction(Direction.DOWNLOAD, tallies, by_key)
    counts = _summed(own, _count, by_key, _SHOWN_OF_DOWNLOADS)
    sizes = _summed(own, _size, by_key, _SHOWN_OF_DOWNLOADS)
    in_state = (*_ROUTE, "state")
    yield _counter("kfd_download_transfers_total", "Transfers that ended.", counts, in_state)
    yield _counter("kfd_download_bytes_total", "Their bytes.", sizes, in_state)
    yield _counter(
        *("kfd_download_records_total", "Records read since the start."),
        *({key: float(one.records) for key, one in by_key.items()}, _ROUTE),
    )
    bad = {
        (*key, reason): float(count)
        for key, one in by_key.items()
        for reason, count in one.bad.items()
    }
    yield _counter("kfd_download_bad_records_total", "Records not used.", bad, (*_ROUTE, "reason"))
    gauges: dict[str, tuple[str, Callable[[DownloadRoute], float | None]]] = {
        "kfd_download_open_transfers": ("Being put together.", lambda one: one.receiving),
        "kfd_download_lag_records": ("Records on the topic not read yet.", lambda one: one.lag),
        "kfd_download_rate_bytes_per_second": (
            "Read from Kafka over the last 5 s.", lambda one: one.bytes_per_second,
        ),
        "kfd_download_paused": (
            "1 where the route is paused.", lambda one: float(one.paused_since is not None),
        ),
    }  # fmt: skip
    for name, (text, value_of) in gauges.items():
        values = {key: value_of(one) for key, one in by_key.items()}
        known = {key: value for key, value in values.items() if value is not None}
        yield _gauge(name, text, known, _ROUTE)


def _of_catalogues(catalogues: Sequence[Catalogue]) -> Iterator[Metric]:
    name = ("catalogue",)
    waiting = {(one.name,): float(one.waiting) for one in catalogues}
    yield _gauge("kfd_catalogue_waiting_rows", "Rows that are to be written.", waiting, name)
    refused = {(one.name,): float(one.refused) for one in catalogues}
    yield _gauge("kfd_catalogue_refused_rows", "Rows refused for good.", refused, name)
    written = {(one.name,): float(one.written) for one in catalogues}
    yield _counter("kfd_catalogue_written_rows_total", "Rows that were written.", written, name)


def _of_direction(
    direction: Direction, tallies: Iterable[Tally], configured: Iterable[_Labels]
) -> list[tuple[_Labels, Tally]]:
    """The tallies of one direction, each with its route and topic as they are shown."""
    known = set(configured)
    return [
        (key if (key := (one.route, one.topic)) in known else ("", ""), one)
        for one in tallies
        if one.direction == direction
    ]


def _count(one: Tally) -> int:
    return one.count


def _size(one: Tally) -> int:
    return one.size


def _summed(
    tallies: Iterable[tuple[_Labels, Tally]],
    value_of: Callable[[Tally], int],
    configured: Iterable[_Labels],
    shown: Sequence[State],
) -> dict[_Labels, float]:
    """By route, topic and state; at least 0 for the states that are shown of what is configured."""
    sums: Counter[_Labels] = Counter(
        {(*key, state.value): 0 for key in configured for state in shown}
    )
    for key, one in tallies:
        sums[*key, one.state] += value_of(one)
    return dict(sums)


def _but(values: Mapping[_Labels, float], states: Iterable[str]) -> dict[_Labels, float]:
    return {key: value for key, value in values.items() if key[-1] not in set(states)}


def _only(values: Mapping[_Labels, float], state: str) -> dict[_Labels, float]:
    """Those of one state, which is left out of their labels."""
    return {key[:-1]: value for key, value in values.items() if key[-1] == state}
