"""Throws shots at the control socket, many in flight, and keeps account of what comes back.

``python -m tests.integration.fuzzer SOCKET FILE SHOTS SEED [owner]``: as nobody, who is a member of
the control group, unless as the owner; prints an account in JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.integration.fuzzing import DESCRIPTORS, Shot, Shots

NOBODY = 65534
BATCH = 12  # shots in flight
BATCH_BYTES = 100_000  # fewer than a socket holds, so that nobody waits for the other for ever
PATIENCE = 10.0  # seconds for an answer
ALONE_PATIENCE = 0.2  # seconds for that to a shot without a probe, to which there may be none
STREAM_PATIENCE = 0.02  # seconds for the next one of a stream, which may have none


class TurnedAway(Exception):  # noqa: N818 - the name says it
    """There are too many connections of this user."""


class Fuzzer:
    """One connection after the other. A probe follows each shot, so that whose an answer is, and
    which shot ended the connection, is known; what came after that one is sent again."""

    def __init__(self, path: Path, descriptors: Sequence[int]) -> None:
        """``descriptors``: one for each kind that a shot may ask for."""
        self.reached: Counter[str] = Counter()  # answers, by method and what they were
        self.files: Counter[str] = Counter()  # what became of those to be sent
        self.tids: list[str] = []
        self.hang_ups = 0
        self.silent = 0
        self._path = path
        self._descriptors = descriptors
        self._probes = itertools.count()
        self._socket = self._connect()
        self._buffer = b""

    def _connect(self) -> socket.socket:
        self._buffer = b""
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.connect(str(self._path))
        return one

    def fire(self, shots: Sequence[Shot]) -> None:
        """Send them all, and take all answers; those with descriptors one by one, since nothing
        else may be in flight then."""
        at = 0
        while at < len(shots):
            batch = list(itertools.takewhile(lambda shot: not shot.passed, shots[at:]))
            try:
                at += self._volley(batch or [shots[at]])
            except TurnedAway:  # the daemon has to end connections before this one first
                time.sleep(0.001)
                self._reconnect()

    def _volley(self, shots: Sequence[Shot]) -> int:
        """How many of them are done with: all up to the one that ended the connection."""
        alone = bool(shots[0].passed)
        probes = [f"io.kfd.Control.Probe{next(self._probes)}" for _ in shots]
        try:
            for shot, probe in zip(shots, probes, strict=True):
                self._send(shot, b"" if alone else b'{"method":"' + probe.encode() + b'"}\0')
        except OSError:  # it hung up while we spoke; what it said is there to be read
            pass
        for at, (shot, probe) in enumerate(zip(shots, probes, strict=True)):
            if not self._answered(shot, None if alone else probe):
                self._reconnect()
                return at + 1
        return len(shots)

    def _reconnect(self) -> None:
        self._socket.close()
        self._socket = self._connect()

    def _send(self, shot: Shot, probe: bytes) -> None:
        for number, piece in enumerate(shot.pieces):
            last = number == len(shot.pieces) - 1
            data = piece + probe if last else piece
            if shot.passed and number == shot.at:
                passed = [self._descriptors[kind] for kind in shot.passed]
                socket.send_fds(self._socket, [data], passed)
            else:
                self._socket.sendall(data)

    def _answered(self, shot: Shot, probe: str | None) -> bool:
        """Take the answers to a shot; false where the connection is of no more use."""
        patience = ALONE_PATIENCE if probe is None else PATIENCE
        while (answer := self._read(patience)) is not None:
            if probe is not None and answer.get("parameters") == {"method": probe}:
                return True
            self._look(shot, answer)
            patience = STREAM_PATIENCE if answer.get("continues") else PATIENCE
            if probe is None:
                return not answer.get("continues") and not self._buffer
        return False

    def _read(self, patience: float) -> dict[str, object] | None:
        self._socket.settimeout(patience)
        while b"\0" not in self._buffer:
            try:
                data = self._socket.recv(1 << 20)
            except TimeoutError:
                self.silent += patience == PATIENCE
                return None
            except OSError:
                data = b""
            if not data:
                self.hang_ups += 1
                return None
            self._buffer += data
        frame, _, self._buffer = self._buffer.partition(b"\0")
        answer = json.loads(frame)
        assert isinstance(answer, dict), frame
        return answer

    def _look(self, shot: Shot, answer: dict[str, object]) -> None:
        parameters = answer["parameters"]
        assert isinstance(parameters, dict)
        self.reached[f"{shot.method} {answer.get('error', 'answered')}"] += 1
        assert parameters.get("exit_code") != 70, (shot, answer)
        if "too many control connections" in str(parameters.get("text")):
            raise TurnedAway
        for one in parameters.get("files", []) if "error" not in answer else []:
            self.tids += [one["tid"]] if one["tid"] else []
            self.files[
                re.sub(r"/\S*|\S*\\\S*|[\w.]*\d\S*", "...", one["refused"])[:60] or "taken"
            ] += 1


def strange_descriptors(file: Path) -> list[int]:
    """Good ones and bad ones, in the order of the kinds of shots."""
    reading, writing = os.pipe()
    memory = os.memfd_create("memory")
    os.write(memory, b"volts")
    kinds = [
        os.open(file, os.O_RDONLY),
        os.open(file, os.O_RDONLY),
        memory,
        os.memfd_create("empty"),
        os.open("/proc/version", os.O_RDONLY),
        reading,
        writing,
        os.open("/", os.O_PATH),
        os.open("/dev/zero", os.O_RDONLY),
    ]
    assert len(kinds) == DESCRIPTORS
    return kinds


def batches(shots: Iterable[Shot]) -> Iterable[list[Shot]]:
    batch: list[Shot] = []
    size = 0
    for shot in shots:
        length = sum(map(len, shot.pieces))
        if batch and (len(batch) == BATCH or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(shot)
        size += length
    if batch:
        yield batch


def main(path: str, file: str, count: str, seed: str, *owner: str) -> None:
    """Fire all, and say what came of it."""
    shots = Shots(int(seed), file, owner=bool(owner))
    descriptors = strange_descriptors(Path(file))
    if os.geteuid() == 0 and not owner:
        os.seteuid(NOBODY)
    fuzzer = Fuzzer(Path(path), descriptors)
    begun = time.monotonic()
    for batch in batches(itertools.islice(shots, int(count))):
        fuzzer.fire(batch)
        shots.tids += fuzzer.tids
        fuzzer.tids.clear()
    account = {
        "passed": [os.readlink(f"/proc/self/fd/{one}") for one in descriptors],
        "seconds": time.monotonic() - begun,
        "hang_ups": fuzzer.hang_ups,
        "silent": fuzzer.silent,
        "reached": fuzzer.reached,
        "files": fuzzer.files,
    }
    print(json.dumps(account))


if __name__ == "__main__":
    main(*sys.argv[1:])
