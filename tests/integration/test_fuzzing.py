"""Whatever comes to the control socket, the daemon answers or hangs up, and works on."""

from __future__ import annotations

import json
import os
import random
import socket
import sys
from pathlib import Path

import pytest

from kfd.control import ERRORS
from kfd.varlink import SERVICE
from tests.integration.conftest import ONE_READER
from tests.integration.fuzzing import frames
from tests.integration.host import Host
from tests.integration.openfiles import open_names
from tests.privileges import unprivileged
from tests.support import eventually

FRAMES = int(os.environ.get("KFD_FUZZ_FRAMES", "10000"))
SEED = int(os.environ.get("KFD_FUZZ_SEED", "1"))
PATIENCE = 0.1  # seconds for an answer: to some requests there is none, or never a last one
LEAVE = 64 << 20  # bytes of memory that may be in use more than before

UNPACED = """\
import sys
from kfd.daemon.server import pacing
from kfd.daemon.__main__ import main
pacing.SHARE = 1e9
sys.argv = sys.argv[3:]
main()
"""
"""Becomes the daemon, and doesn't slow those down who ask without end."""

KNOWN = {f"io.kfd.Control.{name}" for name in ERRORS} | {
    f"{SERVICE}.{name}" for name in ("MethodNotFound", "InterfaceNotFound", "InvalidParameter")
}


class Fuzzer:
    """Asks as nobody, who is a member of the control group and can't make the daemon stop."""

    def __init__(self, path: Path, descriptors: list[int], rng: random.Random) -> None:
        self.errors: set[str] = set()
        self.answers = 0
        self._path = path
        self._descriptors = descriptors
        self._rng = rng
        self._probes = 0
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with unprivileged():
            one.connect(str(self._path))
        one.settimeout(PATIENCE)
        return one

    def ask(self, frame: bytes) -> None:
        """Send a frame, at times with descriptors, and look at the answers to it."""
        passed = self._rng.choices(self._descriptors, k=self._rng.choice((0,) * 15 + (1, 2, 5)))
        try:
            if passed:  # nothing else may be in flight
                socket.send_fds(self._socket, [frame], passed)
                whole = self._answered(b"")
            else:
                self._probes += 1
                probe = f"io.kfd.Control.Probe{self._probes}".encode()
                self._socket.sendall(frame + b'{"method":"' + probe + b'"}\0')
                whole = self._answered(probe)
        except OSError:  # it hung up while we spoke
            whole = False
        if not whole:
            self.close()
            self._socket = self._connect()

    def _answered(self, probe: bytes) -> bool:
        """Take answers to the one to ``probe``, or the first; whether there was that one."""
        buffer = b""
        while True:
            *ended, buffer = buffer.split(b"\0")
            for answer in ended:
                self._look(answer)
                if probe in answer and not buffer:
                    return answer is ended[-1]
            try:
                data = self._socket.recv(1 << 20)
            except TimeoutError:
                return False
            if not data:
                return False
            buffer += data

    def _look(self, answer: bytes) -> None:
        message = json.loads(answer)
        self.answers += 1
        if "error" in message:
            self.errors.add(message["error"])
            assert message["parameters"].get("exit_code") != 70, message

    def close(self) -> None:
        self._socket.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_fuzzed_frames_crash_nothing(tmp_path: Path) -> None:
    """No broker answers: what is sent meanwhile stays in the queue."""
    file = tmp_path / "run.trc"
    file.write_bytes(b"volts")
    settings = {"control_group": "root", "spool_max": "1MiB", "pools": ONE_READER}
    with Host(tmp_path / "host", "127.0.0.1:1", "fuzzed", **settings) as host:
        host.prefix = [sys.executable, "-c", UNPACED]
        host.start()
        host.socket.parent.chmod(0o711)
        fuzz(host, file)
        assert host.terminate() == 0


def fuzz(host: Host, file: Path) -> None:
    """All frames, and a look at what became of the daemon."""
    before = host.rss()
    reading, _ = pipe = os.pipe()
    with file.open("rb") as opened:
        fuzzer = Fuzzer(host.socket, [opened.fileno(), reading], random.Random(SEED))
        for _, frame in zip(range(FRAMES), frames(SEED), strict=False):
            fuzzer.ask(frame)
        fuzzer.close()
    passed = {os.path.realpath(file), os.readlink(f"/proc/self/fd/{reading}")}
    for end in pipe:
        os.close(end)
    assert host.running
    assert "control: a request" not in host.log()
    assert fuzzer.errors <= KNOWN
    assert fuzzer.answers > FRAMES
    eventually(lambda: passed.isdisjoint(open_names(host)))
    print(
        f"{FRAMES:,} frames, {fuzzer.answers:,} answers, errors {sorted(fuzzer.errors)},"
        f" memory +{(host.rss() - before) / 1e6:.1f} MB"
    )
    assert host.rss() < before + LEAVE
    sent = host.ctl("send", "--name", "after.trc", "--until", "queued", file)
    assert sent.returncode == 0, sent.stderr
