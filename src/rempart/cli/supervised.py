"""A supervisor from the terminal: follow it coming up, wait for its end, stop it on Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rempart.kernel.errors import RempartError, Unavailable

from .output import say

if TYPE_CHECKING:
    from rempart.servers.host import Prepared

STOP_WITHIN = 20.0


def attend(prepared: Prepared, began: float, *, detach: bool, tell: Callable[[dict[str, Any]], None]) -> None:
    """Start the supervisor, `tell` its status once it is ready, and stay until it ends or Ctrl-C ends it; `detach`
    returns before. Raises what it failed with, Unavailable `supervisor_died`."""
    from rempart.servers.host import fork_supervisor

    pid, reports = fork_supervisor(prepared, detach=detach)
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell started us with SIGINT ignored
        signal.signal(number, _interrupt)
    with open(reports, "rb", buffering=0) as lines:
        ready = False
        try:
            status = _follow_start(lines, began)
            ready = True
            tell(status)
            if detach:
                return
            ended = _wait(pid, lines)
        except KeyboardInterrupt:
            say("stopping …")
            ended = _stop(pid)
            say("stopped")
            if not ready:
                raise
    if ended != 0:
        raise Unavailable("supervisor_died", f"the supervisor ended with {ended}", "start again: it recovers by itself")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _follow_start(lines: Any, began: float) -> dict[str, Any]:
    """Print progress until ready. Raises what the supervisor failed with."""
    buffered = b""
    while chunk := lines.read(1 << 16):
        *whole, buffered = (buffered + chunk).split(b"\n")
        for line in whole:
            report = json.loads(line)
            if "progress" in report:
                say(f"  {time.monotonic() - began:5.2f} s  {report['progress']}")
            elif "ready" in report:
                return dict(report["ready"])
            elif "failed" in report:
                raise _failure(report["failed"])
    raise Unavailable("start_failed", "the supervisor ended while starting", "see logs/supervisor.log in the state")


def _failure(told: dict[str, Any]) -> RempartError:
    error = RempartError(told["code"], told["reason"], told["remedy"])
    error.exit_code = told["exit"]  # type: ignore[misc]  # the class's own, for this one instance
    return error


def _stop(pid: int) -> int:
    """Ask the supervisor to stop and wait for it; kill it when it doesn't."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_WITHIN
    while time.monotonic() < deadline:
        with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C doesn't make it quicker
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _wait(pid: int, lines: Any) -> int:
    """Until the supervisor ends by itself; its exit code. Raises what it says it ended of."""
    said = b""
    while chunk := lines.read(1 << 16):
        said = (said + chunk)[-65536:]
    for line in said.split(b"\n"):
        if line.startswith(b'{"failed"'):
            raise _failure(json.loads(line)["failed"])
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
