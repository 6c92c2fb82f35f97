"""``Send``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from kfd.control import SendParameters, SendReply, Sent
from kfd.daemon.admission.offered import checked_meta, offered_files
from kfd.daemon.methods.calls import Caller, Handlers, reply
from kfd.daemon.operations import OfferedFile, SendingOperations, SendRequest
from kfd.varlink import Reply


class SendingMethods:
    """What people send."""

    def __init__(self, operations: SendingOperations) -> None:
        self._operations = operations

    def handlers(self) -> Handlers:
        return {"Send": self._send}

    def _send(self, parameters: SendParameters, caller: Caller) -> Iterator[Reply]:
        meta = checked_meta(parameters.meta)
        with ExitStack() as opened:
            offers = offered_files(parameters.files, caller.descriptors, opened, owner=caller.owner)
            files = [offer for offer in offers if isinstance(offer, OfferedFile)]
            request = SendRequest(
                files=files,
                route=parameters.route,
                topic=parameters.topic,
                meta=meta,
                again=bool(parameters.again),
                dry_run=bool(parameters.dry_run),
                uid=caller.uid,
                gone=caller.gone,
            )
            answers = iter(self._operations.send(request) if files else [])
        sent = [offer if isinstance(offer, Sent) else next(answers) for offer in offers]
        yield reply(SendReply(sent))
