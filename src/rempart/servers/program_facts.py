"""What the supervisor tells identity of the program of any process: as root only the supervisor may look."""

from __future__ import annotations

from typing import Any

from rempart.workloads.programs import Programs

from .spawn import start_time


class ProgramFacts:
    def __init__(self) -> None:
        self._programs = Programs()

    async def of(self, pid: int, hash_program: bool) -> dict[str, Any]:
        """`{"start_time", "program": [device, inode], "exe", "sha256"}`, without what can't be told.

        Nothing at all when the process ended or began another program meanwhile: facts of two are never mixed.
        """
        started, file = start_time(pid), self._programs.file_of(pid)
        if started is None or file is None:
            return {} if started is None else {"start_time": started}
        facts = {"exe": self._programs.path_of(pid, file)}
        if hash_program:
            facts["sha256"] = await self._programs.digest_of(pid)
        if (start_time(pid), self._programs.file_of(pid)) != (started, file):
            return {}
        told = {name: value for name, value in facts.items() if value is not None}
        return {"start_time": started, "program": list(file), **told}
