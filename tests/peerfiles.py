"""Records of openmsistream's wire, made by hand: by msgpack, from what its programs were seen to
write."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgpack


@dataclass(frozen=True)
class PeerFile:
    """One upload of a file. ``claims`` replaces fields of every record."""

    content: bytes
    name: str = "run.trc"
    subdir: str = ""
    append: str = ""
    chunk_size: int = 4
    mtime: float | None = 1_600_000_000.25
    claims: dict[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return max(1, -(-len(self.content) // self.chunk_size))

    @cached_property
    def sha512(self) -> bytes:
        return hashlib.sha512(self.content).digest()

    def value(self, index: int, /, **claims: Any) -> bytes:
        """The record of chunk ``index``, from 1 on."""
        offset = (index - 1) * self.chunk_size
        data = self.content[offset : offset + self.chunk_size]
        fields: dict[str, Any] = {
            "name": self.name,
            "file": self.sha512,
            "chunk": hashlib.sha512(claims.get("data", data)).digest(),
            "offset": offset,
            "index": index,
            "total": self.total,
            "subdir": self.subdir,
            "append": self.append,
            "data": data,
            "mtime": self.mtime,
        }
        fields |= self.claims | claims
        if fields["mtime"] is None:
            del fields["mtime"]
        packed: bytes = msgpack.packb(list(fields.values()))
        return packed

    def key(self, index: int) -> str:
        place = self.subdir.replace("/", "_")
        return f"{place}_{self.name}_chunk_{index}_of_{self.total}"

    def values(self) -> list[bytes]:
        """All its records, in order."""
        return [self.value(index) for index in range(1, self.total + 1)]
