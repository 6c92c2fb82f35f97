"""What ``kfdctl doctor`` can look at where the daemon doesn't run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kfd.config import Config, load
from kfd.control.examination import Check
from kfd.ctl.hostchecks import host_faults, properties_of
from kfd.ctl.service import Service, service
from kfd.errors import KfdError, faults_of
from kfd.examination.checks import failed, skipped, well
from kfd.examination.cluster import look_at_cluster
from kfd.kafka import ClusterView
from kfd.propertyfaults import property_fault, property_faults

LOOK_SECONDS = 5.0


def look_from_outside(path: Path | None, named: str | None) -> Iterator[Check]:
    """Why it doesn't run; the file; what it needs here; the brokers, as this user.

    ``named``: the unit; None for one that is no service. ``path``: None where nobody knows it.
    """
    unit = service(named) if named is not None else None
    if unit is not None:
        yield unit.state()
    if path is None:
        yield skipped("configuration", "not known for this socket: --config FILE names it")
        return
    try:
        config = load(path, property_fault)
    except KfdError as error:
        yield from (failed("configuration", fault) for fault in faults_of(error))
        return
    yield well("configuration", f"{path} can be read and has no fault")
    own = path if unit is not None else None
    yield from (failed("host", fault) for fault in host_faults(config, unit, own))
    yield from _brokers(config, unit)


def _brokers(config: Config, unit: Service | None) -> Iterator[Check]:
    properties, faults = properties_of(config, unit)
    yield from (failed("secrets", fault) for fault in faults)
    if len(properties) < len(config.kafka.values):
        yield skipped("brokers", "a secret can't be read by kfdctl: only kfd can log in")
        return
    refused = property_faults(config, properties)
    yield from (failed("kafka", fault) for fault in refused)
    if not refused:
        cluster = ClusterView(properties, LOOK_SECONDS)
        yield from look_at_cluster(config, properties, cluster)
