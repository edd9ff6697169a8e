"""The supervisor's process, from what `host.start_supervisor` tells it to its exit code.

Run as `python -P -m rempart.servers.supervise FD`, FD being a memory file. So it is a fresh interpreter that has read
no settings, and neither knows the master key nor loads what deals with keys.

Its reports are JSON lines: `{"progress": NAME, "seconds"}`, `{"ready": STATUS}`, `{"failed": {"code", "reason",
"remedy", "exit"}}`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rempart.kernel.errors import RempartError, Unavailable
from rempart.wiring.plan_model import Plan

from .disk_upstream import DiskUpstream
from .state_files import Remembered, StateDirectory
from .supervisor_keys import SupervisorKeys

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """`lock`, `reports` and `claims` are descriptors: of the state directory's lock, of the pipe for reports, of the
    ports that were claimed. `follows` is whose end is the supervisor's too."""

    plan: Plan
    remembered: Remembered
    keys: SupervisorKeys
    upstream: DiskUpstream | None
    lock: int
    reports: int
    claims: tuple[int, ...]
    follows: int | None

    def document(self) -> bytes:
        return msgspec.json.encode(self, enc_hook=str)  # of paths

    @staticmethod
    def read(fd: int) -> Told:
        """From a memory file, which is closed."""
        with os.fdopen(fd, "rb") as memory:
            memory.seek(0)
            return msgspec.json.decode(memory.read(), type=Told, dec_hook=lambda kind, value: kind(value))


class Reports:
    """The writing end of the pipe. The face may go away; the supervisor goes on."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, line: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(self._fd, json.dumps(line).encode() + b"\n")

    def failed(self, error: RempartError) -> None:
        self.send(
            {
                "failed": {
                    "code": error.code,
                    "reason": error.reason,
                    "remedy": error.remedy,
                    "exit": error.exit_code,
                }
            }
        )


def supervise(told: Told) -> int:
    """The exit code."""
    plan, state, reports = told.plan, StateDirectory(told.plan.state), Reports(told.reports)
    _redirect(plan.state / "logs" / "supervisor.log")
    state.take_over(told.lock, told.remembered)
    import asyncio

    from .after_start import demo_accounts
    from .supervisor import Supervisor

    supervisor = Supervisor(
        plan,
        state,
        told.keys,
        told.upstream,
        lambda name, seconds: reports.send({"progress": name, "seconds": round(seconds, 3)}),
    )

    async def after_start() -> None:
        if plan.profile == "dev" and plan.gateway_url:
            supervisor.demo_accounts = await demo_accounts(plan.state)
        supervisor.ready = True
        reports.send({"ready": supervisor.status()})

    try:
        asyncio.run(supervisor.run(after_start))
    except RempartError as error:
        reports.failed(error)
        return error.exit_code
    except OSError as error:
        reports.failed(Unavailable("start_failed", f"the supervisor stopped: {error}", "see logs/supervisor.log"))
        return 3
    finally:
        state.close()
    return 0


def _redirect(log: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(nothing)
    os.close(out)
    os.chdir("/")


def main(fd: int) -> int:
    told = Told.read(fd)
    for inherited in (told.lock, told.reports, *told.claims):
        os.set_inheritable(inherited, False)
    if told.follows is not None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != told.follows:
            return 0
    return supervise(told)


if __name__ == "__main__":
    # asyncio loads OpenSSL where it finds it, 4 MB for somebody who speaks on local sockets alone
    sys.modules["ssl"] = None  # type: ignore[assignment]
    sys.exit(main(int(sys.argv[1])))
