"""Events as lines of a file, exactly once: the length that was confirmed stands in the cursor, and what a crash left
behind it is cut. A file that was moved away (log rotation) is begun anew."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rempart.audit.ports import Item, Sent
from rempart.kernel.errors import Unavailable


class JsonlSink:
    """Implements `audit.ports.Sink`. Durable: a batch is confirmed once it is on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, batch: Sequence[Item], mark: Mapping[str, Any]) -> Sent:
        """`mark`: the file's `inode`, and its `length` in bytes."""
        try:
            return Sent(self._append(b"".join(item.payload + b"\n" for item in batch), mark))
        except OSError as error:
            raise Unavailable(
                "sink_unavailable",
                f"{self._path} can't be written: {error.strerror}",
                "free the disk; the user of the process `shipper` must own the directory",
            ) from None

    def _append(self, data: bytes, mark: Mapping[str, Any]) -> dict[str, Any]:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        try:
            facts = os.fstat(fd)
            at = facts.st_size
            if facts.st_ino == mark.get("inode") and int(mark.get("length", 0)) < at:
                at = int(mark["length"])
                os.ftruncate(fd, at)
            length = at + len(data)
            rest = memoryview(data)
            while rest:
                written = os.pwrite(fd, rest, at)
                rest, at = rest[written:], at + written
            os.fsync(fd)
        finally:
            os.close(fd)
        if facts.st_size == 0:
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        return {"inode": facts.st_ino, "length": length}

    async def close(self) -> None:
        return None
