"""From a process to the facts that are known of it, as selectors (requirement W4).

Kernel facts come from /proc, supervisor facts from the supervisor. Everything slow runs in threads or on sockets, so
one caller never holds up another; when all is gathered the process is looked at again, and if it changed meanwhile
nothing of it counts. What can't be found out gives no selector: an entry that asks for it doesn't match.

What was found out for a connection is good for `FACTS_KEPT` seconds of it; who uses it calls `verify_same` first (the
same uid and program, and alive): see docs/adr/0020-workload-api-server.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import pwd
import re
import time
from collections.abc import Collection, Sequence
from typing import Any

from rempart.kernel.errors import Denied

from .containers import container_in
from .model import Facts, Selector, Told
from .ports import ContainerFacts, Supervisor
from .process import Process
from .programs import Programs
from .systemd import fragment_path

_SLICE = re.compile(r"[^/]+\.slice")
_UNIT = re.compile(r"[^/]+\.(service|scope)")


FACTS_KEPT = 1.0
_LOOKS = 16


class Attestor:
    """`containers`: who can tell of the container that a process is in. `root` stands before systemd's paths. `kept`:
    seconds that facts are good for."""

    def __init__(
        self,
        supervisor: Supervisor,
        proc: str = "/proc",
        *,
        containers: Sequence[ContainerFacts] = (),
        root: str = "",
        kept: float = FACTS_KEPT,
    ) -> None:
        self._kept = kept
        self._looking = asyncio.Semaphore(_LOOKS)
        self._supervisor = supervisor
        self._proc = proc
        self._root = root
        self._containers = tuple(containers)
        self._programs = Programs(proc)

    async def attest(self, process: Process, *, wanted: Collection[tuple[str, str]] = ()) -> Facts:
        """`wanted`: (type, kind) of selectors that entries ask for. What is dear is found out for these only: hashing
        reads a whole file, containers are other programs' to tell. Raises Denied `caller_changed`."""
        key = frozenset(wanted)
        known = process.notes.get("facts")
        began = time.monotonic()
        if known is not None and known[0] == key and began - known[1] < self._kept:
            facts: Facts = known[2]
            return facts
        facts = await self._find_out(process, wanted)
        process.notes["facts"] = (key, began, facts)
        return facts

    def greet(self, process: Process) -> asyncio.Task[Told | None] | None:
        """Call it when a process has just connected: where only the supervisor may look at its program, it looks now,
        so that what the process becomes later is not taken for who connected. Say nothing to it until that is done."""
        if process.program is not None:
            return None
        first = process.notes["first"] = asyncio.create_task(self._look(process))
        return first

    async def _look(self, process: Process) -> Told | None:
        async with self._looking:  # who connects a thousand times waits in this line, and not the supervisor
            return await self._supervisor.who(process.pid) if process.alive() else None

    async def _verify_first(self, process: Process, told: Told) -> None:
        """Raises Denied `caller_changed` when it runs another program than when it connected, or nobody saw which."""
        first: asyncio.Task[Told | None] | None = process.notes.get("first")
        if first is None:
            return
        seen = await asyncio.shield(first)
        if seen is None or (seen.start_time, seen.program) != (told.start_time, told.program):
            raise Denied("caller_changed", "the calling process became another one", "connect again")

    @staticmethod
    def last_found(process: Process) -> tuple[Collection[tuple[str, str]], Facts] | None:
        """What was looked for last, and found out."""
        known = process.notes.get("facts")
        return (known[0], known[2]) if known is not None else None

    async def _find_out(self, process: Process, wanted: Collection[tuple[str, str]]) -> Facts:
        hash_program = ("unix", "sha256") in wanted
        ours = process.program is not None  # else only the supervisor may look at the program
        supervisors_answer = asyncio.create_task(
            self._supervisor.who(process.pid, hash_program=hash_program and not ours)
        )
        try:
            selectors, description = await asyncio.to_thread(self._kernel_facts, process, wanted)
            selectors |= await self._container_facts(process, wanted)
            digest = await self._programs.digest_of(process.pid) if hash_program and ours else None
            told = await supervisors_answer
        finally:
            supervisors_answer.cancel()
        if told is not None and told.start_time == process.start_time:
            if told.name:
                selectors.add(Selector("supervisor", told.kind, told.name))
                description["supervised"] = f"{told.kind}:{told.name}"
            if not ours:
                await self._verify_first(process, told)
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

    async def _container_facts(self, process: Process, wanted: Collection[tuple[str, str]]) -> set[Selector]:
        types = {type_ for type_, _ in wanted}
        asked = [source for source in self._containers if source.type in types]
        container = container_in(self._cgroups(process.pid).values()) if asked else None
        if container is None:
            return set()
        found = await asyncio.gather(*(source.of(container) for source in asked))
        return set().union(*found)

    def _kernel_facts(
        self, process: Process, wanted: Collection[tuple[str, str]]
    ) -> tuple[set[Selector], dict[str, Any]]:
        selectors = {Selector("unix", "uid", str(process.uid)), Selector("unix", "gid", str(process.gid))}
        description: dict[str, Any] = {"pid": process.pid, "uid": process.uid, "gid": process.gid}
        with contextlib.suppress(KeyError):  # a uid without a name
            selectors.add(Selector("unix", "user", pwd.getpwuid(process.uid).pw_name))
        with contextlib.suppress(KeyError):  # a gid without a name
            selectors.add(Selector("unix", "group", grp.getgrgid(process.gid).gr_name))
        for gid in self._supplementary(process.pid):
            selectors.add(Selector("unix", "supplementary_gid", str(gid)))
            if ("unix", "supplementary_group") in wanted:
                with contextlib.suppress(KeyError):
                    selectors.add(Selector("unix", "supplementary_group", grp.getgrgid(gid).gr_name))
        if process.program is not None:
            self._add_path(self._programs.path_of(process.pid, process.program), selectors, description)
        cgroup = self._cgroup(process.pid)
        if cgroup:
            selectors.add(Selector("unix", "cgroup", cgroup))
            unit = unit_of(cgroup)
            if unit:
                selectors.add(Selector("systemd", "id", unit))
                if ("systemd", "fragment_path") in wanted and (fragment := fragment_path(unit, self._root)):
                    selectors.add(Selector("systemd", "fragment_path", fragment))
                description["unit"] = unit
        return selectors, description

    def _supplementary(self, pid: int) -> list[int]:
        """As of now; a process can only drop what it was given (setgroups(2)), unless it is root."""
        try:
            with open(f"{self._proc}/{pid}/status", "rb") as status:
                return next(([int(gid) for gid in line.split()[1:]] for line in status if line[:7] == b"Groups:"), [])
        except (OSError, ValueError):
            return []

    def _cgroups(self, pid: int) -> dict[str, str]:
        """Hierarchy → path (cgroups(7), /proc/PID/cgroup); the unified one is named ""."""
        try:
            with open(f"{self._proc}/{pid}/cgroup") as lines:
                rows = [line.rstrip("\n").split(":", 2) for line in lines]
        except (OSError, UnicodeDecodeError):
            return {}
        return {row[1]: row[2] for row in rows if len(row) == 3}

    def _cgroup(self, pid: int) -> str | None:
        """The path in the unified hierarchy, else in systemd's own."""
        paths = self._cgroups(pid)
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
