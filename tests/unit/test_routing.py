"""To which topics files may be sent that somebody asks to send."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kfd.daemon.admission.routing import Routing
from kfd.daemon.operations import SendRequest
from kfd.errors import UsageError


@pytest.fixture
def routing() -> Routing:
    """Where no route is configured."""
    return Routing(SimpleNamespace(routes={}), None)  # type: ignore[arg-type]


def request(topic: str) -> SendRequest:
    return SendRequest([], None, topic, {}, again=False, dry_run=False, uid=0, gone=lambda: False)


def test_no_file_goes_among_receipts(routing: Routing) -> None:
    with pytest.raises(UsageError, match="for receipts about files on lecroy_files"):
        routing.destination(b"/srv/run.trc", request("lecroy_files.receipts"))
    assert routing.destination(b"/srv/run.trc", request("receipts")) == ("", "receipts")
