"""From a process to the facts that are known of it, as selectors (requirement W4).

Kernel facts come from /proc, supervisor facts from the supervisor. Everything slow runs in threads or on sockets, so
one caller never holds up another; when all is gathered the process is looked at again, and if it changed meanwhile
nothing of it counts. What can't be found out gives no selector: an entry that asks for it doesn't match.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import hashlib
import os
import pwd
import re
from collections import OrderedDict
from typing import Any

from .model import Facts, Selector
from .ports import Supervisor
from .process import Process

_HASHERS = 2
_HASHES_KEPT = 256
_SLICE = re.compile(r"[^/]+\.slice")
_UNIT = re.compile(r"[^/]+\.(service|scope)")


class Attestor:
    def __init__(self, supervisor: Supervisor, proc: str = "/proc") -> None:
        self._supervisor = supervisor
        self._proc = proc
        self._hashes: OrderedDict[tuple[int, ...], str] = OrderedDict()
        self._hashing = asyncio.Semaphore(_HASHERS)

    async def attest(self, process: Process, *, hash_program: bool) -> Facts:
        """Raises Denied `caller_changed`. `hash_program` only where an entry asks for it: it reads the whole file."""
        supervised_question = asyncio.create_task(self._supervisor.who(process.pid))
        try:
            selectors, description = await asyncio.to_thread(self._kernel_facts, process)
            if hash_program:
                async with self._hashing:
                    digest = await asyncio.to_thread(self._hash, process.pid)
                if digest:
                    selectors.add(Selector("unix", "sha256", digest))
            supervised = await supervised_question
        finally:
            supervised_question.cancel()
        if supervised is not None and supervised.start_time == process.start_time:
            selectors.add(Selector("supervisor", supervised.kind, supervised.name))
            description["supervised"] = f"{supervised.kind}:{supervised.name}"
        process.verify_same()
        return Facts(process.pid, process.uid, process.start_time, frozenset(selectors), description)

    def _kernel_facts(self, process: Process) -> tuple[set[Selector], dict[str, Any]]:
        selectors = {Selector("unix", "uid", str(process.uid)), Selector("unix", "gid", str(process.gid))}
        description: dict[str, Any] = {"pid": process.pid, "uid": process.uid, "gid": process.gid}
        with contextlib.suppress(KeyError):  # a uid without a name
            selectors.add(Selector("unix", "user", pwd.getpwuid(process.uid).pw_name))
        with contextlib.suppress(KeyError):  # a gid without a name
            selectors.add(Selector("unix", "group", grp.getgrgid(process.gid).gr_name))
        path = self._program_path(process)
        if path:
            selectors.add(Selector("unix", "path", path))
            description["exe"] = path
        cgroup = self._cgroup(process.pid)
        if cgroup:
            selectors.add(Selector("unix", "cgroup", cgroup))
            unit = unit_of(cgroup)
            if unit:
                selectors.add(Selector("systemd", "id", unit))
                description["unit"] = unit
        return selectors, description

    def _program_path(self, process: Process) -> str | None:
        """The executable's path, if that path is the same file for us: in a mount namespace of its own a process could
        put its own program at anybody's path."""
        try:
            path = os.readlink(f"{self._proc}/{process.pid}/exe")
            status = os.stat(path)
        except (OSError, ValueError):
            return None
        return path if (status.st_dev, status.st_ino) == process.program else None

    def _hash(self, pid: int) -> str | None:
        try:
            with open(f"{self._proc}/{pid}/exe", "rb") as program:
                status = os.fstat(program.fileno())
                key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                if (known := self._hashes.get(key)) is not None:
                    return known
                digest = hashlib.file_digest(program, "sha256").hexdigest()
        except OSError:
            return None
        self._hashes[key] = digest
        while len(self._hashes) > _HASHES_KEPT:
            self._hashes.popitem(last=False)
        return digest

    def _cgroup(self, pid: int) -> str | None:
        """The path in the unified hierarchy, else in systemd's own (cgroups(7), /proc/PID/cgroup)."""
        try:
            with open(f"{self._proc}/{pid}/cgroup") as lines:
                rows = [line.rstrip("\n").split(":", 2) for line in lines]
        except (OSError, UnicodeDecodeError):
            return None
        paths = {row[1]: row[2] for row in rows if len(row) == 3 and (row[0] == "0" or row[1] == "name=systemd")}
        for path in (paths.get(""), paths.get("name=systemd")):
            if path and path != "/" and ".." not in path.split("/"):
                return path
        return None


def unit_of(cgroup: str) -> str | None:
    """The system's unit: the first component that is no slice. What a user delegates to itself lies below its
    `user@UID.service`, and so can't be named like a system unit."""
    for component in cgroup.strip("/").split("/"):
        if _SLICE.fullmatch(component):
            continue
        return component if _UNIT.fullmatch(component) else None
    return None
