"""A real systemd in a container: a Debian root that is made once, and booted on an overlay."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support import eventually, unavailable

# The Debian whose python3 is the one that runs the tests, so that wheels built here fit there.
SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "python3-venv")


def require_container() -> None:
    """Skip (in CI: fail) where no container can be run."""
    if os.geteuid() != 0:
        unavailable("a container needs root")
    if os.environ.get("container") == "systemd-nspawn":  # noqa: SIM112 - systemd writes it so
        unavailable("systemd-nspawn boots no system within another one of its own")
    for program in ("systemd-nspawn", "debootstrap"):
        if shutil.which(program) is None:
            unavailable(f"{program} is not installed")
    if sys.version_info[:2] not in SUITES:
        unavailable(f"no Debian has Python {sys.version_info.major}.{sys.version_info.minor}")


def debian_root() -> Path:
    """A Debian with systemd, from the cache if it was made before. It is never written to."""
    suite = SUITES[sys.version_info[:2]]
    key = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("KFD_CACHE") or Path.home() / ".cache" / "kfd")
    root = cache / f"{suite}-{key}"
    if not root.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _make_root(suite, root)
    return root


def _make_root(suite: str, root: Path) -> None:
    """Made under another name, so that what an interrupted run left is never taken for whole."""
    with tempfile.TemporaryDirectory(prefix="making-", dir=root.parent) as making:
        new = Path(making) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
        made = subprocess.run(
            [*command, suite, str(new), *_mirror(suite)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stdout[-2000:]
        new.rename(root)


def _mirror(suite: str) -> list[str]:
    """Where apt gets this Debian from on this machine; empty where it is another system."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    command += ["Created-By: Packages", f"Codename: {suite}", "Component: main"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return found.stdout.split()[:1]


class Container:
    """A booted system that sees some of the host's directories, read-only, and its network.

    Whatever is written in it is gone at the end.
    """

    def __init__(self, root: Path, shared: Mapping[str, Path]) -> None:
        self._command = ["systemd-nspawn", "--quiet", f"--directory={root}", "--volatile=overlay"]
        self._command += [f"--machine=kfd-test-{os.getpid()}", "--register=no", "--keep-unit"]
        self._command += [f"--bind-ro={path}:{name}" for name, path in shared.items()]
        self._command += ["--console=pipe", "--boot"]

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as its root, and with ``check`` require that it succeeds."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._init), "--all", "--", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def path(self, name: str) -> Path:
        """A file of its, as this machine sees it. Symbolic links on the way lead elsewhere."""
        return Path(f"/proc/{self._init}/root{name}")

    def host_pid(self, pid: int) -> int:
        """The number that a process of its has on this machine."""
        mine = os.readlink(f"/proc/{self._init}/ns/pid")
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                told = (process / "status").read_text().partition("NSpid:")[2].splitlines()[0]
                if int(told.split()[-1]) == pid and os.readlink(process / "ns/pid") == mine:
                    return int(process.name)
        raise AssertionError(f"no process {pid} is in the container")

    def __enter__(self) -> Self:
        self._console = tempfile.TemporaryFile()
        self._nspawn = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
        )
        try:
            eventually(self._booted, every=0.2)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _booted(self) -> bool:
        assert self._nspawn.poll() is None, "the container ended"
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text()
        if not children:
            return False
        self._init = int(children.split()[0])
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() == "running"

    def _end(self) -> None:
        """An orderly power-off may hang; killing its first process ends all of its processes."""
        if hasattr(self, "_init"):
            subprocess.run(["kill", "-KILL", str(self._init)], check=False, capture_output=True)
        else:
            self._nspawn.kill()
        self._nspawn.wait()
        self._console.seek(0)
        print(self._console.read().decode(errors="replace"))
        self._console.close()
