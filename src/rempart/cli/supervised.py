"""A supervisor from the terminal: follow it coming up, wait for its end, stop it on Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import Any

from rempart.kernel.errors import RempartError, Unavailable

from .output import say

STOP_WITHIN = 20.0


def interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def follow_start(lines: Any, began: float) -> dict[str, Any]:
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


def stop(pid: int) -> int:
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


def wait(pid: int, lines: Any) -> int:
    """Until the supervisor ends by itself; its exit code. Raises what it says it ended of."""
    said = b""
    while chunk := lines.read(1 << 16):
        said = (said + chunk)[-65536:]
    for line in said.split(b"\n"):
        if line.startswith(b'{"failed"'):
            raise _failure(json.loads(line)["failed"])
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
