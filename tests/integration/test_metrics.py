"""The metrics of a daemon that moves files, by kfdctl and at the endpoint."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import ONE_READER, MakeHost
from tests.integration.host import Host
from tests.support import eventually

pytestmark = pytest.mark.broker

Samples = dict[tuple[str, str, str], float]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def samples(text: str) -> Samples:
    """By name, route and state."""
    return {
        (one.name, one.labels.get("route", ""), one.labels.get("state", "")): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def scraped(port: int) -> str | None:
    """What the endpoint gives, None while nothing listens there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError:
        return None


def move(host: Host) -> None:
    host.put("a", b"1" * 100)
    host.put("b", b"2" * 200)
    host.receives_all()
    host.delivers("a", "b")


def check(found: Samples) -> None:
    """Two files of 300 bytes went out and came in."""
    assert found["kfd_upload_delivered_transfers_total", "out", ""] == 2
    assert found["kfd_upload_delivered_bytes_total", "out", ""] == 300
    assert found["kfd_upload_transfers", "out", "queued"] == 0
    assert found["kfd_download_transfers_total", "in", "published"] == 2
    assert found["kfd_download_bytes_total", "in", "published"] == 300
    assert found["kfd_download_records_total", "in", ""] == 2
    assert found["kfd_state", "", "running"] == 1
    assert found["kfd_brokers_up", "", ""] == 1
    assert found["kfd_ledger_bytes", "", ""] > 4096
    assert found["kfd_process_resident_memory_bytes", "", ""] > 10e6


def test_what_moved_is_told(make_host: MakeHost) -> None:
    port = free_port()
    host = make_host(pools=ONE_READER, metrics=f"127.0.0.1:{port}")
    host.start()
    move(host)
    text = eventually(lambda: scraped(port), 20)
    assert text is not None
    check(samples(text))
    check(samples(host.ctl("metrics").stdout))


def test_the_endpoint_comes_and_goes_with_a_reload(host: Host) -> None:
    port = free_port()
    values = yaml.safe_load(host.config.read_text())
    host.config.write_text(yaml.safe_dump({**values, "metrics": f"127.0.0.1:{port}"}))
    assert host.call("Reload")["applied"] == ["metrics"]
    eventually(lambda: scraped(port), 20)
    host.config.write_text(yaml.safe_dump(values))
    assert host.call("Reload")["applied"] == ["metrics"]
    eventually(lambda: scraped(port) is None, 20)


def test_a_port_that_is_taken_degrades_and_files_move_all_the_same(make_host: MakeHost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        host = make_host(pools=ONE_READER, metrics=f"127.0.0.1:{port}")
        host.start()
        move(host)
        (problem,) = host.status()["problems"]
        assert problem["text"] == f"nothing can listen at 127.0.0.1:{port}: Address already in use"
    eventually(lambda: scraped(port), 20)
    assert host.status()["problems"] == []
