"""The process behind a connection, held so that nothing else can be taken for it.

`SO_PEERCRED` gives pid, uid and gid as they were at connect(2); `SO_PEERPIDFD` (Linux 6.5) a descriptor of that very
process, immune to pid reuse. Between connecting and being answered a process may exit (and its pid be given to
another), or execute another program: `verify_same` notices both, and a change of its effective uid.
Source: unix(7), pidfd_open(2), proc_pid_stat(5).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

from rempart.kernel.errors import Denied, NotFound

SO_PEERPIDFD = 77
_CREDENTIALS = struct.Struct("3i")
_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, struct pidfd_info) of 64 bytes
_PIDFD_INFO = struct.Struct("=Q28xI24x")  # of which: mask and effective uid
_INFO_CREDS = 2


def _read(path: str) -> bytes:
    """The first 4 KiB; several times faster than a file object, and this runs for every answer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def start_time_of(pid: int) -> int:
    """Clock ticks after boot at which the process started; the command's name may hold spaces and brackets."""
    return int(_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[19])


def _effective_uid(pid: int, pidfd: int) -> int:
    """Of the process itself (ioctl_pidfd(2), Linux 6.13), before that of its pid."""
    info = bytearray(_PIDFD_INFO.size)
    _PIDFD_INFO.pack_into(info, 0, _INFO_CREDS, 0)
    with contextlib.suppress(OSError):
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
        mask, uid = _PIDFD_INFO.unpack(info)
        if mask & _INFO_CREDS:
            return int(uid)
    return int(_read(f"/proc/{pid}/status").partition(b"\nUid:")[2].split(None, 2)[1])


def _program_of(pid: int) -> tuple[int, int] | None:
    """Device and inode of the executable; None where the kernel doesn't let us look (another user's process)."""
    try:
        status = os.stat(f"/proc/{pid}/exe")
    except PermissionError:
        return None
    return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class Process:
    """Owns `pidfd`; close it when the connection ends."""

    pid: int
    uid: int
    gid: int
    pidfd: int
    start_time: int
    program: tuple[int, int] | None
    notes: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What attestation found out of it for this connection."""

    @staticmethod
    def behind(connection: socket.socket) -> Process:
        """The peer of a unix stream socket; raises Denied `unknown_caller` when it is gone or hidden."""
        pid, uid, gid = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if pid <= 0:
            raise _unknown()  # a peer in a pid namespace that we can't see into
        try:
            pidfd = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
            os.set_inheritable(pidfd, False)
        except OSError:
            # Before Linux 6.5. A pid that was given to another process since connect(2) is then noticed by its uid
            # only: processes of one uid can read each other's keys anyway (ptrace).
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                raise _unknown() from None
        try:
            process = Process(pid, uid, gid, pidfd, start_time_of(pid), _program_of(pid))
            process.verify_same()
        except (OSError, ValueError, IndexError, Denied):
            os.close(pidfd)
            raise _unknown() from None
        return process

    @staticmethod
    def numbered(pid: int) -> Process:
        """One that nobody is connected to, for diagnosis only: a pid proves nothing. Raises NotFound."""
        try:
            pidfd = os.pidfd_open(pid)
        except (OSError, OverflowError):
            raise NotFound("no_such_process", f"there is no process {pid}", "see `ps`") from None
        try:
            status = _read(f"/proc/{pid}/status")
            gid = int(status.partition(b"\nGid:")[2].split(None, 2)[1])
            process = Process(pid, _effective_uid(pid, pidfd), gid, pidfd, start_time_of(pid), _program_of(pid))
            process.verify_same()
        except (OSError, ValueError, IndexError, Denied):
            os.close(pidfd)
            raise NotFound("no_such_process", f"the process {pid} has just ended", "see `ps`") from None
        return process

    def alive(self) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    def verify_same(self) -> None:
        """That the process lives, under the same uid, and runs the same program; raises Denied `caller_changed`.

        The facts are read by pid, so the last look is at the pidfd: while it lives, its pid is nobody else's, and was
        nobody else's since the pidfd was made.
        """
        with contextlib.suppress(OSError, ValueError, IndexError):
            same = _effective_uid(self.pid, self.pidfd) == self.uid and _program_of(self.pid) == self.program
            if same and self.alive():
                return
        raise Denied("caller_changed", "the calling process ended or became another one", "connect again")

    def close(self) -> None:
        os.close(self.pidfd)


def _unknown() -> Denied:
    return Denied("unknown_caller", "the process behind the connection can't be determined", "connect again")
