"""Where the Merkle log is kept: named files, and one record that counts (`state`).

A name is a path of c2sp.org/tlog-tiles: `tile/0/x001/234`, `tile/entries/000.p/17`, `checkpoint`. Directory here;
`backends.s3_log` and `backends.postgres_log` keep the same names.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from rempart.kernel.errors import Conflict


class LogStorage(Protocol):
    """One writer. Every method raises OSError or Unavailable when it can't be done now.

    Two writers by mistake: the second is refused with Conflict `log_locked` when it opens, or where a storage has no
    locks, the first is refused at its next `save_state` (Integrity `log_taken_over`); never do both commit.
    """

    def read(self, name: str) -> bytes | None:
        """The bytes; None if there are none of that name."""

    def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        """All of them durable on return, names included. After a failure any of them may be there."""

    def delete(self, names: Iterable[str]) -> None:
        """Absent ones are passed over."""

    def names(self, prefix: str) -> Iterator[str]:
        """Of all files below `prefix`, which ends in a slash; in any order."""

    def load_state(self) -> bytes | None: ...

    def save_state(self, state: bytes) -> None:
        """Atomic and durable. After a failure the old one or the new one is there."""

    def replace(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Atomic: a reader, and who comes after a crash, finds the old bytes or the new."""

    def close(self) -> None: ...


class DirectoryStorage:
    """`state_path` lies outside `directory`, which can be given to readers as a whole."""

    def __init__(self, directory: Path, state_path: Path, *, lock: bool = True) -> None:
        """Raises Conflict `log_locked` when another process writes this log."""
        self.directory = directory
        self._state_path = state_path
        self._known: set[Path] = set()
        directory.mkdir(parents=True, exist_ok=True)
        self._lock_fd = _lock(state_path.with_name(state_path.name + ".lock")) if lock else -1

    def __str__(self) -> str:
        return str(self.directory)

    def read(self, name: str) -> bytes | None:
        try:
            return (self.directory / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        touched: set[Path] = set()
        for name, data in files:
            path = self.directory / name
            self._make_directory(path.parent, touched)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                _write_all(fd, data)
                os.fdatasync(fd)
            finally:
                os.close(fd)
            touched.add(path.parent)
        for directory in sorted(touched, reverse=True):
            _sync_directory(directory)

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.directory / name
            path.unlink(missing_ok=True)
            try:
                path.parent.rmdir()
            except OSError:
                continue  # holds others
            self._known.discard(path.parent)

    def names(self, prefix: str) -> Iterator[str]:
        for parent, _, files in os.walk(self.directory / prefix):
            base = Path(parent).relative_to(self.directory).as_posix()
            yield from (f"{base}/{name}" for name in files)

    def load_state(self) -> bytes | None:
        try:
            return self._state_path.read_bytes()
        except FileNotFoundError:
            return None

    def save_state(self, state: bytes) -> None:
        _replace(self._state_path, state, sync=True)

    def replace(self, name: str, data: bytes, *, durable: bool = True) -> None:
        path, touched = self.directory / name, set[Path]()
        self._make_directory(path.parent, touched)
        _replace(path, data, sync=durable)
        for directory in sorted(touched, reverse=True):
            _sync_directory(directory)

    def close(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _make_directory(self, path: Path, touched: set[Path]) -> None:
        if path != self.directory and path not in self._known:
            self._make_directory(path.parent, touched)
            path.mkdir(exist_ok=True)
            touched.add(path.parent)
            self._known.add(path)
            if len(self._known) > 4096:
                self._known.clear()


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Conflict("log_locked", "another process writes this log", "stop that process first") from None
    return fd


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a full disk takes a part first, and says why at the next call
        view = view[os.write(fd, view) :]


def _replace(path: Path, data: bytes, *, sync: bool) -> None:
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        _write_all(fd, data)
        if sync:
            os.fdatasync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)
    if sync:
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
