"""Processes that outlived their supervisor: found by the mark in their environment and by what was remembered."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable

from rempart.kernel.errors import Unavailable

from .spawn import parent_of, same_process

_GONE_WITHIN = 5.0


def marked(instance: str) -> set[int]:
    """The pids whose environment says that this state's supervisor started them (they or their parents)."""
    mark = f"REMPART_INSTANCE={instance}".encode()
    ours = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    ours.add(int(entry))
    return ours


def kill_leftovers(instance: str, running: Iterable[tuple[int, int]]) -> int:
    """Kill what an earlier supervisor left; returns how many. Raises Unavailable when one can't be killed."""
    spared = _self_and_ancestors()
    found = marked(instance) | {pid for pid, started in running if same_process(pid, started)}
    found -= spared
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _GONE_WITHIN
    while alive := {pid for pid in found if _is_alive(pid)}:
        if time.monotonic() > deadline:
            raise Unavailable(
                "leftovers",
                f"processes of an earlier start don't go away: {sorted(alive)}",
                "kill them, as their owner",
            )
        time.sleep(0.01)
    return len(found)


def _self_and_ancestors() -> set[int]:
    pids, pid = set(), os.getpid()
    while pid and pid not in pids:
        pids.add(pid)
        pid = parent_of(pid) or 0
    return pids


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
