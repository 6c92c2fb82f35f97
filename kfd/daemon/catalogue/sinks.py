"""Makes sinks of their settings. What a kind needs is loaded only where one is configured."""

from __future__ import annotations

import threading
from collections.abc import Callable

from kfd.config.catalogues import AnyCatalogue, CasJobsCatalogue
from kfd.daemon.catalogue.memory import Memory
from kfd.daemon.catalogue.sink import Sink, SinkError


def make_sink(
    settings: AnyCatalogue, secret: Callable[[], str], stopping: threading.Event, memory: Memory
) -> Sink:
    """A sink that hasn't connected yet. Raises :class:`SinkError`."""
    if isinstance(settings, CasJobsCatalogue):
        from kfd.daemon.catalogue.casjobs import CasJobsSink  # noqa: PLC0415 - see above

        return CasJobsSink(settings, secret, stopping, memory)
    try:
        from kfd.daemon.catalogue.sql import SqlSink  # noqa: PLC0415 - see above
    except ImportError as error:
        raise SinkError(
            f"it needs SQLAlchemy: {error}", fix="pip install 'kfd[sql]' where kfd is installed"
        ) from None
    return SqlSink(settings, secret, stopping)
