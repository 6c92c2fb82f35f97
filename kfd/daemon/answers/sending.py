"""Answers to those who send files."""

from __future__ import annotations

from kfd.control import Sent
from kfd.daemon.admission.admission import Admission
from kfd.daemon.life import Life
from kfd.daemon.operations import SendRequest
from kfd.errors import KfdError


class SendingAnswers:
    """Takes files until the daemon drains."""

    def __init__(self, admission: Admission, life: Life) -> None:
        self._admission = admission
        self._life = life

    def send(self, request: SendRequest) -> list[Sent]:
        if self._life.ending:
            raise KfdError("kfd is finishing its work and takes no new files", fix="start it again")
        return self._admission.send(request)
