"""What systemd's sandbox forbids a service, by the properties of its unit (systemd.exec(5))."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kfd.errors import PermissionProblemError
from kfd.unit import drop_in, writable

# As `systemctl show --property=` knows them.
PROPERTIES = (
    *("ProtectSystem", "ProtectHome", "PrivateTmp", "ReadWritePaths", "ReadOnlyPaths"),
    *(
        "SystemCallFilter",
        "InaccessiblePaths",
        "StateDirectory",
        "RuntimeDirectory",
        "CacheDirectory",
        "LogsDirectory",
    ),
)
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - the service's own ones are meant
_SYSTEM = {
    "yes": ("/usr", "/boot", "/efi"),
    "full": ("/usr", "/boot", "/efi", "/etc"),
    "strict": ("/",),
}
_OWN = {
    "StateDirectory": "/var/lib",
    "RuntimeDirectory": "/run",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
}


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Of one unit (``kfd``, ``kfd@NAME``)."""

    unit: str
    properties: Mapping[str, str]

    def faults(
        self, read: Iterable[Path], write: Iterable[Path]
    ) -> Iterator[PermissionProblemError]:
        """What the service may not do with these directories; one drop-in mends all that are only
        read-only."""
        wanted = list(dict.fromkeys(write))
        hidden = {path: why for path in [*wanted, *read] if (why := self._hidden(path))}
        for path, (text, fix) in hidden.items():
            yield PermissionProblemError(f"{text}: {path}", fix=fix)
        closed = [path for path in wanted if path not in hidden and not self._writable(path)]
        for path in closed:
            yield PermissionProblemError(
                f"read-only for the service: {path}", fix=writable(closed, self.unit)
            )

    def chown_fault(self, group: str) -> PermissionProblemError | None:
        """Whether it keeps the service from giving files to a group."""
        calls = self.properties.get("SystemCallFilter", "").split()
        if not calls:
            return None
        refused = calls[0].startswith("~")  # then they are those that are forbidden
        if ("fchown" in (call.lstrip("~") for call in calls)) is not refused:
            return None
        return PermissionProblemError(
            f"the service may not give files to the group {group}",
            fix=self._edit("SystemCallFilter=@chown"),
        )

    def _edit(self, settings: str) -> str:
        return drop_in(settings, self.unit)

    def _hidden(self, path: Path) -> tuple[str, str] | None:
        """Why it isn't seen at all, and what to do."""
        home = self.properties.get("ProtectHome", "no")
        if home in ("yes", "tmpfs") and _below(path, _HOMES):
            return "not seen by the service (ProtectHome)", self._edit("ProtectHome=read-only")
        if self.properties.get("PrivateTmp") in ("yes", "disconnected") and _below(
            path, _TEMPORARY
        ):
            return "the service has a /tmp of its own (PrivateTmp)", "name a directory elsewhere"
        if _below(path, self._paths("InaccessiblePaths")):
            return "not seen by the service", self._edit("InaccessiblePaths=")
        return None

    def _writable(self, path: Path) -> bool:
        """As systemd does it: the longest of the paths that hold it decides."""
        allowed = _longest(path, self._writable_paths())
        return allowed >= 0 and allowed >= _longest(path, self._read_only_paths())

    def _writable_paths(self) -> Iterator[Path]:
        yield from self._paths("ReadWritePaths")
        for name, parent in _OWN.items():
            for own in self.properties.get(name, "").split():
                yield Path(parent, own.partition(":")[0])
        if self.properties.get("ProtectSystem", "no") != "strict":
            yield Path("/")

    def _read_only_paths(self) -> Iterator[Path]:
        for path in _SYSTEM.get(self.properties.get("ProtectSystem", "no"), ()):
            if path != "/":
                yield Path(path)
        if self.properties.get("ProtectHome") == "read-only":
            yield from _HOMES
        yield from self._paths("ReadOnlyPaths")

    def _paths(self, name: str) -> list[Path]:
        return [Path(one.lstrip("-+")) for one in self.properties.get(name, "").split()]


def _below(path: Path, others: Iterable[Path]) -> bool:
    return any(path.is_relative_to(other) for other in others)


def _longest(path: Path, others: Iterable[Path]) -> int:
    """How deep the deepest of ``others`` lies that holds ``path``; -1: none does."""
    return max((len(one.parts) for one in others if path.is_relative_to(one)), default=-1)
