"""A client of the control socket that knows nothing of kfd's code, and may be an indecent one."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self


class Raw:
    """One connection; what is sent is up to the test. A silent server fails it after a minute."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def call(
        self, method: str, parameters: object = None, fds: tuple[int, ...] = (), **flags: bool
    ) -> dict[str, Any]:
        self.write(method, parameters, fds, **flags)
        return self.read()

    def write(
        self, method: str, parameters: object = None, fds: tuple[int, ...] = (), **flags: bool
    ) -> None:
        message = {"method": f"io.kfd.Control.{method}", "parameters": parameters or {}} | flags
        socket.send_fds(self.socket, [json.dumps(message).encode() + b"\0"], fds)

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data
        frame, _, self.buffer = self.buffer.partition(b"\0")
        answer = json.loads(frame)
        assert isinstance(answer, dict)
        return answer

    def rest(self) -> Iterator[dict[str, Any]]:
        """All replies until the server closes."""
        with contextlib.suppress(EOFError):
            while True:
                yield self.read()

    def closed(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
