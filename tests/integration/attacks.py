"""What a member of the control group might do to the control socket, for as long as it lives.

``python -m tests.integration.attacks NAME SOCKET``: as nobody, if that is started by root.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

NOBODY = 65534
BLOCK = 1 << 16


def connected(path: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.settimeout(5)
    one.connect(str(path))
    return one


def call(method: str, **parameters: object) -> bytes:
    request = {"method": f"io.kfd.Control.{method}", "parameters": parameters}
    return json.dumps(request).encode() + b"\0"


def slowloris(path: Path) -> None:
    """Requests that never end, a byte at a time, on as many connections as one gets."""
    frames = [connected(path) for _ in range(16)]
    while True:
        for at, one in enumerate(frames):
            try:
                one.send(b" ")
            except OSError:
                one.close()
                frames[at] = connected(path)
        time.sleep(0.2)


def endless_frame(path: Path) -> None:
    """Requests of 1 GiB."""
    while True:
        with connected(path) as one, suppress(OSError):
            for _ in range((1 << 30) // BLOCK):
                one.sendall(b" " * BLOCK)


def depth_bomb(path: Path) -> None:
    """Arrays in arrays, and quotes that look like them."""
    while True:
        for bomb in (b"[" * 60_000, b'{"a":' * 12_000, b'"' + b"\\" * 60_000, b'["' * 30_000):
            with connected(path) as one, suppress(OSError):
                one.sendall(bomb + b"\0")
                one.recv(BLOCK)


def connections(path: Path) -> None:
    """500 connections, over and over."""
    held: list[socket.socket] = []
    while True:
        while len(held) < 500:
            held.append(connected(path))
        for one in held[:100]:
            one.close()
        del held[:100]


def silent_readers(path: Path) -> None:
    """Questions whose answers nobody takes."""
    held: list[socket.socket] = []
    while True:
        with suppress(OSError):
            one = connected(path)
            held.append(one)
            one.setblocking(False)
            for _ in range(1000):
                one.send(call("List", limit=10_000) + call("GetStatus"))
        time.sleep(0.05)
        if len(held) > 16:
            held.pop(0).close()


def wrong_types(path: Path) -> None:
    """Parameters of every wrong kind, as fast as they are refused."""
    values: list[object] = [None, True, -1, 1 << 70, 1e308, "x", [], {}, [[]], {"a": {}}, "\ud800"]
    fields = ("files", "tids", "until", "limit", "state", "route", "meta", "topic", "now")
    rng = random.Random(1)
    methods = ("Send", "Wait", "List", "GetStatus", "Quit", "Nothing")
    with connected(path) as one:
        while True:
            chosen = {name: rng.choice(values) for name in rng.sample(fields, 4)}
            one.sendall(call(rng.choice(methods), **chosen))
            one.recv(BLOCK)


def pipelined_descriptors(path: Path) -> None:
    """Many requests at once, and descriptors with them, which then belong to none."""
    with Path("/dev/null").open("rb") as null:
        while True:
            with connected(path) as one, suppress(OSError):
                for _ in range(20):
                    frames = (call("GetStatus") * 20)[:-5]
                    socket.send_fds(one, [frames], [null.fileno()] * 253)
                one.recv(BLOCK)


def strange_descriptors(path: Path) -> None:
    """What is no file, or not to be read."""
    reading, writing = os.pipe()
    strange = [
        reading,
        writing,
        os.open("/", os.O_PATH),
        os.open("/", os.O_RDONLY),
        os.open("/dev/zero", os.O_RDONLY),
        os.open("/dev/null", os.O_WRONLY),
        one_end(),
    ]
    files = [{"descriptor": at, "name": f"n{at}"} for at in range(len(strange))]
    with connected(path) as one:
        while True:
            socket.send_fds(one, [call("Send", files=files)], strange)
            one.recv(BLOCK)


def one_end() -> int:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours.detach()


def copies(path: Path) -> None:
    """Files that have to be copied, until there is no room for more, and then still."""
    file = os.memfd_create("large")
    os.truncate(file, 64 << 20)
    with connected(path) as one:
        one.settimeout(None)
        for number in range(1 << 30):
            send_copies(one, [file], f"copies/{number}")


def send_copies(one: socket.socket, files: list[int], name: str) -> None:
    each = [{"descriptor": at, "name": f"{name}/{at}"} for at in range(len(files))]
    socket.send_fds(one, [call("Send", files=each, route="parked")], files)
    one.recv(BLOCK)


def changing_copies(path: Path) -> None:
    """Files that change whenever they are copied, so that the copies are thrown away and take no
    room: there could be more and more of them."""
    file = os.memfd_create("changing")
    os.truncate(file, 64 << 20)

    def change() -> None:
        while True:
            os.pwrite(file, b"x", 0)
            time.sleep(0.01)

    threading.Thread(target=change, daemon=True).start()
    at_once(path, 8, lambda one: send_copies(one, [file], "changing"))


def small_copies(path: Path) -> None:
    """Each has to be synced."""
    files = [os.memfd_create(f"small{at}") for at in range(200)]
    for file in files:
        os.write(file, b"volts")
    at_once(path, 8, lambda one: send_copies(one, files, os.urandom(8).hex()))


def at_once(path: Path, count: int, attack: Callable[[socket.socket], None]) -> None:
    """The same on so many connections, over and over."""

    def repeat() -> None:
        with connected(path) as one, suppress(OSError):
            one.settimeout(None)
            while True:
                attack(one)

    threads = [threading.Thread(target=repeat, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


ATTACKS: dict[str, Callable[[Path], None]] = {
    attack.__name__: attack
    for attack in (
        slowloris,
        endless_frame,
        depth_bomb,
        connections,
        silent_readers,
        wrong_types,
        pipelined_descriptors,
        strange_descriptors,
        copies,
        changing_copies,
        small_copies,
    )
}


def main(name: str, path: str) -> None:
    """Attack until killed; what a refusal breaks is begun again."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    print("begun", flush=True)
    while True:
        with suppress(OSError):
            ATTACKS[name](Path(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
