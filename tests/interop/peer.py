"""openmsistream's own programs, as its users run them, in an environment of their own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Self

from tests.support import CHECKOUT, eventually, unavailable

_CONFIG = """\
[broker]
bootstrap.servers = {bootstrap}
[producer]
batch.size = 2000000
linger.ms = 100
compression.type = lz4
key.serializer = StringSerializer
value.serializer = DataFileChunkSerializer
[consumer]
group.id = {group}
auto.offset.reset = earliest
enable.auto.commit = False
fetch.min.bytes = 1
key.deserializer = StringDeserializer
value.deserializer = DataFileChunkDeserializer
"""
_READY = {
    "DataFileUploadDirectory": "Will upload files in",
    "DataFileDownloadDirectory": "Will reconstruct files from",
}


class Program:
    """One of its programs that run until they are told to quit. As a context manager it never
    leaves a process behind; its log is shown if the block fails."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self._name = name
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=_environment()
            )

    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="backslashreplace")

    def wait_until_ready(self) -> None:
        """Wait until it reads its topic, or its directory."""
        eventually(lambda: self._ended() or _READY[self._name] in self.log(), every=0.1)
        assert not self._ended(), self.log()

    def quit(self) -> None:
        """Type ``q``, and wait until it has ended in order."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"q\n")
        self._process.stdin.close()
        status = eventually(lambda: self._process.poll() is not None, deadline=90, every=0.1)
        assert status
        assert self._process.returncode == 0, self.log()

    def _ended(self) -> bool:
        return self._process.poll() is not None

    def __enter__(self) -> Self:
        self.wait_until_ready()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if not self._ended():
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if error is not None:
            print(f"--- {self._name}\n{self.log()}")


class Peer:
    """Starts the programs against one topic, with a home for their configuration and logs."""

    def __init__(self, home: Path, bootstrap: str, topic: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._home = home
        self._topic = topic
        self._programs = _programs()
        self._started = 0
        self.config = home / "peer.config"
        self.config.write_text(_CONFIG.format(bootstrap=bootstrap, group=f"peer-{topic}"))

    def downloads(self, directory: Path, *options: str) -> Program:
        """DataFileDownloadDirectory, which puts files together in ``directory``."""
        directory.mkdir(parents=True, exist_ok=True)
        return self._start("DataFileDownloadDirectory", *options, str(directory))

    def uploads(self, directory: Path, *options: str, chunk_size: int = 64 << 10) -> Program:
        """DataFileUploadDirectory, which sends what is and what comes into ``directory``."""
        directory.mkdir(parents=True, exist_ok=True)
        arguments = ["--upload_existing", "--chunk_size", str(chunk_size), *options, str(directory)]
        return self._start("DataFileUploadDirectory", *arguments)

    def upload_file(self, file: Path, chunk_size: int = 64 << 10) -> str:
        """UploadDataFile, to its end; what it said."""
        command = self._command("UploadDataFile", "--chunk_size", str(chunk_size), str(file))
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=90, check=False, env=_environment()
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def _start(self, name: str, *arguments: str) -> Program:
        self._started += 1
        log = self._home / f"{name}-{self._started}.log"
        return Program(name, self._command(name, *arguments), log)

    def _command(self, name: str, *arguments: str) -> list[str]:
        program = str(self._programs / name)
        return [program, "--config", str(self.config), "--topic_name", self._topic, *arguments]


def put_together(directory: Path) -> dict[bytes, bytes]:
    """Path → content of what DataFileDownloadDirectory has put there, without its own logs."""
    top = os.fsencode(directory)
    found = {}
    for parent, _, names in os.walk(top):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, top)] = file.read()
    return {path: content for path, content in found.items() if not _is_a_log(path)}


def _is_a_log(path: bytes) -> bool:
    return path.startswith(b"LOGS/") or path == b"DataFileDownloadDirectory.log"


def _programs() -> Path:
    """Where the programs are: in the environment that ``need_peer`` of scripts/lib.sh makes."""
    environment = Path(os.environ.get("KFD_PEER") or CHECKOUT / ".venv-peer")
    if not (environment / "bin" / "DataFileDownloadDirectory").exists():
        unavailable("openmsistream isn't installed; scripts/test installs it")
    return environment / "bin"


def _environment() -> dict[str, str]:
    """Without what the tests' own modules are found by."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
