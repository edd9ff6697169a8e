"""Starting one process through `launch.py`, and knowing when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess  # nosec B404 - starting programs is what a supervisor is for
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from . import launch


@dataclass(frozen=True, slots=True)
class Ids:
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """See `launch.py` for the meaning of each field."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str = "/"
    fds: tuple[int, ...] = ()
    parent: int = 0
    umask: int = 0o077
    ids: Ids | None = None
    low_port: bool = False
    view: dict[str, Any] | None = None

    def document(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def bare_python(program: str) -> list[str]:
    """The command that runs a file with nothing but the standard library: the interpreter, without the environment."""
    python = getattr(sys, "_base_executable", None) or sys.executable
    return [os.path.realpath(python), "-I", "-S", os.path.realpath(program)]


def launcher() -> list[str]:
    """The command that `launch.py` is run by."""
    return bare_python(launch.__file__)


def memory_file(name: str, content: bytes) -> int:
    """The descriptor of a memory file, to be closed by the caller. Never on disk."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which `pid` started; with the pid it names a process for good. None when it is gone."""
    stat = _stat(pid)
    return None if stat is None else int(stat[19])


def parent_of(pid: int) -> int | None:
    stat = _stat(pid)
    return None if stat is None else int(stat[1])


def _stat(pid: int) -> list[str] | None:
    """/proc/PID/stat from its third field on (proc(5)); the second may hold anything."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


class Child:
    """A process that was started. `exited` becomes its status as in `subprocess`: negative for a signal."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self.start_time = start_time(self.pid) or 0
        self._process = process
        self._pidfd = os.pidfd_open(self.pid)
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):  # what it started and left in its session
            os.killpg(self.pid, signal.SIGKILL)
        if not self.exited.done():
            self.exited.set_result(status)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process and, when it is SIGKILL, to its whole group."""
        if self.exited.done():
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                self._process.send_signal(number)


def spawn(spec: Launch, *, stdout: int, stderr: int, stdin: int = subprocess.DEVNULL) -> Child:
    """Must be called from the supervisor's main thread: children die with the thread that made them."""
    memory = memory_file("launch", spec.document())
    try:
        process = subprocess.Popen(  # nosec B603 - an argument list, no shell
            [*launcher(), str(memory)],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={},
            cwd="/",
            pass_fds=(memory, *spec.fds),
            start_new_session=True,
        )
    finally:
        os.close(memory)
    return Child(process)


def same_process(pid: int, started: int) -> bool:
    return start_time(pid) == started


def children_of(pid: int) -> Sequence[int]:
    """Direct children at this moment, zombies included."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and parent_of(int(entry)) == pid:
            found.append(int(entry))
    return found
