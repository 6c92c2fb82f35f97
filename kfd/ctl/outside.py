"""What ``kfdctl doctor`` can look at where the daemon doesn't run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kfd.acls import principal
from kfd.config import Config, load
from kfd.control.examination import Check
from kfd.ctl.hostchecks import host_faults, properties_of
from kfd.ctl.service import Service, service
from kfd.errors import KfdError, faults_of
from kfd.examination.brokers import look_at_brokers
from kfd.examination.checks import failed, skipped, well
from kfd.examination.topics import look_at_rights, look_at_topics
from kfd.kafka import ClusterView, RefusedPropertyError

LOOK_SECONDS = 5.0


def look_from_outside(path: Path, *, is_service: bool) -> Iterator[Check]:
    """Why it doesn't run; the file; what it needs here; the brokers, as this user."""
    unit = service() if is_service else None
    if unit is not None:
        yield unit.state()
    try:
        config = load(path)
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
    try:
        cluster = ClusterView(properties, LOOK_SECONDS)
    except RefusedPropertyError as error:
        yield failed("kafka", error.placed(config.where("kafka", error.name)))
        return
    yield from look_at_brokers(properties, cluster)
    yield from look_at_topics(config, cluster)
    yield from look_at_rights(
        config, cluster, properties["bootstrap.servers"], principal(properties)
    )
