"""The real parts of a daemon that a reload changes, after their start; no broker answers them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kfd.config import load
from kfd.daemon.admission.spool import Spool
from kfd.daemon.catalogue.catalogues import Catalogues
from kfd.daemon.context import Context
from kfd.daemon.disposal.disposing import Disposing
from kfd.daemon.health import Health
from kfd.daemon.housekeeping import Housekeeper
from kfd.daemon.incoming.downloads import Downloads
from kfd.daemon.ledger import Ledger
from kfd.daemon.metrics.endpoint import Endpoint
from kfd.daemon.notify import Notifier
from kfd.daemon.outgoing.uploads import Uploads
from kfd.daemon.pauses import Pauses
from kfd.daemon.rates import Rates
from kfd.daemon.receipts.confirmations import Confirmations
from kfd.daemon.reload import Parts, Reloader
from kfd.daemon.topics.topics import TopicWatch
from kfd.errors import KfdError
from kfd.kafka import ClusterView

Change = Callable[[dict[str, Any]], object]


class Running:
    """A daemon's parts after their start, and its file."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.file = home / "kfd.yaml"
        self.deaths: list[BaseException] = []
        (home / "up").mkdir()
        self.write(
            uploads={"out": {"directory": str(home / "up"), "topic": "t"}},
            downloads={"in": self.download("in"), "other": self.download("other")},
        )
        config = load(self.file)
        properties = config.kafka_properties()
        self.health = Health()
        self.ledger = Ledger(home / "ledger.db", self.health, origin=None, default="here")
        self.ledger.start(self.died)
        cluster = ClusterView(properties)
        topics = TopicWatch(cluster, self.health, create=False)
        context = Context(
            *(properties, self.ledger, cluster, topics, self.health, Rates(), Pauses(self.ledger))
        )
        self.uploads = Uploads(config, context, 1.0)
        self.downloads = Downloads(context)
        parts = Parts(
            context,
            self.uploads,
            self.downloads,
            Disposing(context, self.uploads.identity_of),
            Confirmations(context, config.uploads, self.uploads.requeued),
            Housekeeper(context, self.uploads, self.downloads, config.history),
            Spool(self.ledger, home / "spool", config.spool_max, config.history),
            Endpoint(config.metrics, lambda: "", self.health),
            Catalogues(self.ledger, self.health, home / "spool"),
        )
        coming = (self.uploads.prepare(config), self.downloads.prepare(config))
        self.downloads.take(coming[1], self.died)
        self.uploads.start(self.died)
        self.uploads.take(coming[0], self.died)
        self.notifier = Notifier()
        self.reloader = Reloader(parts, config, self.file, self.notifier, self.died)
        self.reloader.start(self.died)

    def died(self, _: object, error: BaseException) -> None:
        self.deaths.append(error)

    def download(self, name: str) -> dict[str, str]:
        return {"directory": str(self.home / name), "topic": "t"}

    def write(self, **values: Any) -> None:
        kafka = {"bootstrap.servers": "127.0.0.1:1"}
        pools = {"consumer_threads": 2, "producer_threads": 1}
        self.file.write_text(yaml.safe_dump({"kafka": kafka, "pools": pools, **values}))

    def change(self, change: Change) -> None:
        values = yaml.safe_load(self.file.read_text())
        change(values)
        self.file.write_text(yaml.safe_dump(values))

    def refusal(self) -> KfdError:
        """What a reload is refused with."""
        with pytest.raises(KfdError) as caught:
            self.reloader.ask().result(60)
        return caught.value

    def stop(self) -> None:
        for stage in (self.reloader, self.uploads, self.downloads, self.ledger):
            if isinstance(stage, Uploads | Downloads):
                stage.stop(time.monotonic() + 30)
            else:
                stage.stop()
                assert stage.join(30)
        assert self.deaths == []
