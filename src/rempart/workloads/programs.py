"""Which program a process runs: path, device and inode, SHA-256. Used by identity for what it may look at, and by the
supervisor, which as root may look at every process (proc_pid_exe(5)).
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict

LARGEST = 1 << 30
_HASHERS = 2
_WAITING = 64
_KEPT = 256


class Programs:
    """One per event loop. Hashing is done in threads, two at a time, and remembered by device, inode, size and times:
    whoever replaces or changes a file changes its ctime, which nobody can set."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._known: OrderedDict[tuple[int, ...], str] = OrderedDict()
        self._hashing = asyncio.Semaphore(_HASHERS)
        self._waiting = 0

    def file_of(self, pid: int) -> tuple[int, int] | None:
        """Device and inode of the executable; None when it is gone or not ours to look at."""
        try:
            status = os.stat(f"{self._proc}/{pid}/exe")
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def path_of(self, pid: int, file: tuple[int, int] | None) -> str | None:
        """The executable's path, if that path is `file` for us too: in a mount namespace of its own a process could
        put its own program at anybody's path."""
        try:
            path = os.readlink(f"{self._proc}/{pid}/exe")
            status = os.stat(path)
        except (OSError, ValueError):
            return None
        return path if (status.st_dev, status.st_ino) == file else None

    async def digest_of(self, pid: int) -> str | None:
        """SHA-256 of the executable, in hexadecimal. None too when it is larger than 1 GiB or too many wait."""
        if self._waiting >= _WAITING:
            return None
        self._waiting += 1
        try:
            async with self._hashing:
                return await asyncio.to_thread(self._digest, pid)
        finally:
            self._waiting -= 1

    def _digest(self, pid: int) -> str | None:
        import hashlib  # OpenSSL, 4 MB, which a supervisor has no other use for

        try:
            with open(f"{self._proc}/{pid}/exe", "rb") as program:
                status = os.fstat(program.fileno())
                key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                if (known := self._known.get(key)) is not None:
                    return known
                if status.st_size > LARGEST:
                    return None
                digest = hashlib.file_digest(program, "sha256").hexdigest()
        except OSError:
            return None
        self._known[key] = digest
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return digest
