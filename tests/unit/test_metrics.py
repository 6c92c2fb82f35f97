"""The metrics: what they say, that their labels are bounded, and who uses names that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from kfd.daemon.ledger.queries import Tally
from kfd.daemon.metrics import exposition
from kfd.daemon.metrics.measured import Measured
from tests.control import busy_status, status
from tests.support import CHECKOUT

TALLIES = [
    Tally("upload", "scope3", "lecroy_files", "delivered", 3, 100, b"x", 1.0),
    Tally("upload", "scope3", "lecroy_files", "failed", 2, 50, b"x", 1.0),
    Tally("upload", "scope3", "lecroy_files", "queued", 1, 7, b"", None),
    Tally("upload", "gone", "old", "queued", 4, 40, b"", None),
    Tally("upload", "", "anything", "queued", 5, 50, b"", None),
    Tally("download", "archive", "lecroy_files", "published", 6, 600, b"x", 1.0),
    Tally("download", "archive", "lecroy_files", "quarantined", 1, 10, b"x", 1.0),
]


@pytest.fixture
def families() -> dict[str, Metric]:
    """All that a busy daemon tells, as Prometheus reads it."""
    text = exposition.text(Measured(busy_status(), TALLIES, 4096))
    return {one.name: one for one in text_string_to_metric_families(text)}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    """The one sample of this name with these labels."""
    (found,) = [
        one.value
        for family in families.values()
        for one in family.samples
        if one.name == sample and labels.items() <= one.labels.items()
    ]
    return found


def test_the_numbers_are_those_of_status_and_ledger(families: dict[str, Metric]) -> None:
    sent = {"route": "scope3", "topic": "lecroy_files"}
    assert value(families, "kfd_upload_delivered_transfers_total", **sent) == 3
    assert value(families, "kfd_upload_delivered_bytes_total", **sent) == 100
    assert value(families, "kfd_upload_transfers", state="failed", **sent) == 2
    assert value(families, "kfd_upload_bytes", state="queued", **sent) == 7
    assert value(families, "kfd_upload_rate_bytes_per_second", **sent) == 42e6
    received = {"route": "archive", "topic": "lecroy_files"}
    assert value(families, "kfd_download_transfers_total", state="quarantined", **received) == 1
    assert value(families, "kfd_download_bytes_total", state="published", **received) == 600
    assert value(families, "kfd_download_records_total", **received) == 88120
    assert value(families, "kfd_download_bad_records_total", reason="foreign", **received) == 3
    assert value(families, "kfd_download_lag_records", **received) == 0
    assert value(families, "kfd_queue_records") == 812
    assert value(families, "kfd_ledger_bytes") == 4096
    assert value(families, "kfd_disk_free_bytes") == 81 << 30
    assert value(families, "kfd_problems", scope="xrd1", degrades="true") == 1
    assert value(families, "kfd_state", state="degraded") == 1
    assert value(families, "kfd_state", state="running") == 0
    assert value(families, "kfd_process_open_fds") > 2


def test_what_has_not_happened_yet_is_zero(families: dict[str, Metric]) -> None:
    """Else the first failure would be no increase."""
    assert value(families, "kfd_upload_transfers", route="xrd1", state="failed") == 0
    assert value(families, "kfd_download_transfers_total", route="archive", state="expired") == 0


def test_what_is_not_known_is_left_out() -> None:
    waiting = replace(busy_status().downloads[0], lag=None)
    text = exposition.text(Measured(status(downloads=[waiting], disk_free=None), [], 0))
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert [one for one in samples if re.match("kfd_download_lag|kfd_disk_free", one)] == []


def test_only_configured_routes_and_topics_are_labels(families: dict[str, Metric]) -> None:
    """Anybody who may send could else make a series for each topic."""
    assert value(families, "kfd_upload_transfers", route="", topic="", state="queued") == 9
    samples = [sample for family in families.values() for sample in family.samples]
    assert {one.labels["topic"] for one in samples if "topic" in one.labels} == {"", "lecroy_files"}
    assert {one.labels["route"] for one in samples if "route" in one.labels} == {
        *("", "scope3", "xrd1", "archive")
    }


def test_each_has_a_help_and_a_name_with_its_unit(families: dict[str, Metric]) -> None:
    for name, family in families.items():
        assert name.startswith("kfd_")
        assert family.documentation
        assert family.type in ("gauge", "counter")


def used_in(text: str) -> set[str]:
    return set(re.findall(r"\bkfd_[a-z_]+", text))


def expressions() -> Iterator[str]:
    """All that the dashboard and the alerts ask for."""
    dashboard = json.loads((CHECKOUT / "packaging/grafana/kfd.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (one["definition"] for one in dashboard["templating"]["list"] if "definition" in one)
    alerts = yaml.safe_load((CHECKOUT / "packaging/prometheus/alerts.yaml").read_text())
    yield from (rule["expr"] for group in alerts["groups"] for rule in group["rules"])


def test_dashboard_and_alerts_use_what_exists(families: dict[str, Metric]) -> None:
    samples = {sample.name for family in families.values() for sample in family.samples}
    # no sample without a receipt that was not used
    names = samples | {"kfd_upload_bad_receipts_total"}
    used = set().union(*map(used_in, expressions()))
    assert used - names == set()
    assert len(used) > 15


def test_expressions_are_balanced() -> None:
    for one in expressions():
        for opening, closing in ("()", "{}", "[]"):
            assert one.count(opening) == one.count(closing), one
        assert one.count('"') % 2 == 0, one
