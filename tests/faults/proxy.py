"""A bad network between clients and one broker: a TCP proxy that delays, trickles and resets.

It stands at the address that the broker advertises, so no client gets around it. All randomness
comes from the seed; when what is reset depends on the timing as well.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Self

_SEGMENT = 1448  # bytes, as on a wire: with the loopback's 64 KiB, small windows stall on each one
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, drop what isn't sent


@dataclass(frozen=True)
class Weather:
    """How bad the network is. All for each connection and direction."""

    delay: float = 0.0  # seconds that each piece waits
    window: int = 0  # bytes of the sockets' buffers, and of a piece; 0: the kernel's
    reset_after: int = 0  # bytes, on average, after which a connection is reset; 0: never


class Proxy:
    """Listens at ``port`` of the loopback while entered, and forwards to ``target``.

    ``weather`` may be changed at any time. One thread; the counters are written by it alone.
    """

    def __init__(self, rng: random.Random) -> None:
        self.weather = Weather()
        self.up = self.down = 0  # bytes forwarded to the broker, and from it
        self.resets = 0
        self._rng = rng
        self._target = 0
        self._loop = asyncio.new_event_loop()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="proxy")

    @property
    def bootstrap(self) -> str:
        """What clients are configured with."""
        return f"127.0.0.1:{self.port}"

    def forward_to(self, port: int) -> None:
        """Where connections go from now on; until it is called they are refused."""
        self._target = port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listening))
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._listening.close()
        self._loop.close()

    async def _end(self) -> None:
        """Break every connection."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            to_reader, to_writer = await self._connect()
            writers.append(to_writer)
            self._narrow(writers)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, to_writer, up=True))
                both.create_task(self._pump(to_reader, writer, up=False))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for one in writers:
                self._reset(one)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        line = socket.socket()
        line.setblocking(False)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
        await self._loop.sock_connect(line, ("127.0.0.1", self._target))
        return await asyncio.open_connection(sock=line)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        """Forward one direction until it ends or its time has come; raises :class:`OSError`."""
        left = self._until_reset()
        while data := await reader.read(self.weather.window or 1 << 16):
            if self.weather.delay:
                await asyncio.sleep(self.weather.delay)
            if left is not None and (left := left - len(data)) <= 0:
                self.resets += 1
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
            if up:
                self.up += len(data)
            else:
                self.down += len(data)
        raise ConnectionResetError  # Kafka's clients never close one half only

    def _until_reset(self) -> float | None:
        """Bytes that this direction of a connection lives for."""
        mean = self.weather.reset_after
        return self._rng.uniform(0.5 * mean, 1.5 * mean) if mean else None

    def _narrow(self, writers: list[asyncio.StreamWriter]) -> None:
        if self.weather.window:
            for writer in writers:
                line: socket.socket = writer.get_extra_info("socket")
                line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.weather.window)
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.weather.window)
                writer.transport.set_write_buffer_limits(high=self.weather.window)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        line: socket.socket = writer.get_extra_info("socket")
        if line.fileno() >= 0:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
