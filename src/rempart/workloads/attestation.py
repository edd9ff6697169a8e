"""From a process to the facts that are known of it, as selectors (requirement W4).

Kernel facts come from /proc, supervisor facts from the supervisor. Everything slow runs in threads or on sockets, so
one caller never holds up another; when all is gathered the process is looked at again, and if it changed meanwhile
nothing of it counts. What can't be found out gives no selector: an entry that asks for it doesn't match.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import pwd
import re
from typing import Any

from .model import Facts, Selector, Told
from .ports import Supervisor
from .process import Process
from .programs import Programs

_SLICE = re.compile(r"[^/]+\.slice")
_UNIT = re.compile(r"[^/]+\.(service|scope)")


class Attestor:
    def __init__(self, supervisor: Supervisor, proc: str = "/proc") -> None:
        self._supervisor = supervisor
        self._proc = proc
        self._programs = Programs(proc)

    async def attest(self, process: Process, *, hash_program: bool) -> Facts:
        """Raises Denied `caller_changed`. `hash_program` only where an entry asks for it: it reads the whole file."""
        ours = process.program is not None  # else only the supervisor may look at the program
        supervisors_answer = asyncio.create_task(
            self._supervisor.who(process.pid, hash_program=hash_program and not ours)
        )
        try:
            selectors, description = await asyncio.to_thread(self._kernel_facts, process)
            digest = await self._programs.digest_of(process.pid) if hash_program and ours else None
            told = await supervisors_answer
        finally:
            supervisors_answer.cancel()
        if told is not None and told.start_time == process.start_time:
            if told.name:
                selectors.add(Selector("supervisor", told.kind, told.name))
                description["supervised"] = f"{told.kind}:{told.name}"
            if not ours and await self._still(process, told):
                digest = told.sha256
                self._add_path(told.path, selectors, description)
        if digest:
            selectors.add(Selector("unix", "sha256", digest))
        process.verify_same()
        return Facts(process.pid, process.uid, process.start_time, frozenset(selectors), description)

    async def _still(self, process: Process, before: Told) -> bool:
        """Does it run the program that the supervisor looked at? Where we may look ourselves, `verify_same` does."""
        if before.program is None:
            return False
        after = await self._supervisor.who(process.pid)
        return after is not None and (after.start_time, after.program) == (before.start_time, before.program)

    @staticmethod
    def _add_path(path: str | None, selectors: set[Selector], description: dict[str, Any]) -> None:
        if path:
            selectors.add(Selector("unix", "path", path))
            description["exe"] = path

    def _kernel_facts(self, process: Process) -> tuple[set[Selector], dict[str, Any]]:
        selectors = {Selector("unix", "uid", str(process.uid)), Selector("unix", "gid", str(process.gid))}
        description: dict[str, Any] = {"pid": process.pid, "uid": process.uid, "gid": process.gid}
        with contextlib.suppress(KeyError):  # a uid without a name
            selectors.add(Selector("unix", "user", pwd.getpwuid(process.uid).pw_name))
        with contextlib.suppress(KeyError):  # a gid without a name
            selectors.add(Selector("unix", "group", grp.getgrgid(process.gid).gr_name))
        if process.program is not None:
            self._add_path(self._programs.path_of(process.pid, process.program), selectors, description)
        cgroup = self._cgroup(process.pid)
        if cgroup:
            selectors.add(Selector("unix", "cgroup", cgroup))
            unit = unit_of(cgroup)
            if unit:
                selectors.add(Selector("systemd", "id", unit))
                description["unit"] = unit
        return selectors, description

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
