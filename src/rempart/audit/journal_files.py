"""The files of a journal before anything is in them, and what the kernel is told about their pages."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path

from .segment import FREE_SUFFIX

OPEN = os.O_RDWR | os.O_NOFOLLOW
"""Root opens an agent's journal before the agent runs, which may have put a link there."""
_WRITE = 2  # SYNC_FILE_RANGE_WRITE


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], int]:
    function = ctypes.CDLL(None).sync_file_range
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


def begin_writing(fd: int, offset: int, size: int) -> None:
    """Let the disk begin with these bytes and come back at once (sync_file_range(2)); `fdatasync` waits, and tells."""
    _sync_file_range()(fd, offset, size, _WRITE)


def new_file(path: Path, size: int) -> int:
    """A file of at least `size` bytes that are on disk, open for writing: a used one, else a new one."""
    path.unlink(missing_ok=True)
    for free in path.parent.glob("*" + FREE_SUFFIX):
        with contextlib.suppress(FileNotFoundError):
            if free.lstat().st_size >= size:
                free.rename(path)
                return os.open(path, OPEN)
            free.unlink()
    return _written_file(path, size)


def _written_file(path: Path, size: int) -> int:
    """A new file of `size` zeros that are on disk, open for writing.

    Written, not just reserved: a later `fdatasync` then has data to write and no metadata, which takes a third less.
    """
    fd = os.open(path, OPEN | os.O_CREAT | os.O_EXCL, 0o640)
    try:
        os.posix_fallocate(fd, 0, size)
        zeros = bytes(1 << 18)
        for offset in range(0, size, len(zeros)):
            wanted = min(len(zeros), size - offset)
            if os.pwrite(fd, zeros[:wanted], offset) != wanted:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    except OSError:
        os.close(fd)
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return fd


class Spare:
    """A file being made by a thread of its own; `take` waits for it. -1 when it could not be made."""

    def __init__(self, path: Path, size: int) -> None:
        self._fd = -1
        self._thread = threading.Thread(target=self._make, args=(path, size), name="journal-spare", daemon=True)
        self._thread.start()

    def _make(self, path: Path, size: int) -> None:
        with contextlib.suppress(OSError):  # whoever needs the file tries again, and tells what is wrong
            self._fd = new_file(path, size)

    def take(self) -> int:
        self._thread.join()
        return self._fd
