"""A supervisor from the terminal: follow it coming up, then leave a small process to wait for its end."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from rempart.kernel.errors import Unavailable

from . import ended, face
from .output import say

if TYPE_CHECKING:
    from rempart.servers.host import Prepared


def attend(prepared: Prepared, began: float, *, detach: bool, tell: Callable[[dict[str, Any]], None]) -> None:
    """Start the supervisor, `tell` its status once it is ready, and stay until it ends or Ctrl-C ends it; `detach`
    returns before. Raises what it failed with, Unavailable `supervisor_died`."""
    from rempart.servers.host import start_supervisor

    pid, reports = start_supervisor(prepared, detach=detach)
    for number in face.SIGNALS:  # also where a shell started us with SIGINT ignored
        signal.signal(number, face.interrupted)
    ready = False
    try:
        status = _follow_start(reports, began)
        ready = True
        tell(status)
        if not detach:
            _become_face(pid, reports)
    except KeyboardInterrupt:
        say("stopping …")
        exit_code = face.stop(pid)
        say("stopped")
        if not ready:
            raise
        if exit_code:
            ended.run(status=exit_code)


def _become_face(pid: int, reports: int) -> NoReturn:
    """Interrupts wait until it can take them."""
    from rempart.servers.spawn import bare_python

    os.set_inheritable(reports, True)
    command = [*bare_python(face.__file__), str(pid), str(reports), sys.executable, *sys.argv[1:]]
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, face.SIGNALS)
    os.execv(command[0], command)  # nosec B606 - our own interpreter and file


def _follow_start(reports: int, began: float) -> dict[str, Any]:
    """Print progress until ready. Raises what the supervisor failed with."""
    buffered = b""
    while chunk := os.read(reports, 1 << 16):
        *whole, buffered = (buffered + chunk).split(b"\n")
        for line in whole:
            report = json.loads(line)
            if "progress" in report:
                say(f"  {time.monotonic() - began:5.2f} s  {report['progress']}")
            elif "ready" in report:
                return dict(report["ready"])
            elif "failed" in report:
                raise ended.failure(report["failed"])
    raise Unavailable("start_failed", "the supervisor ended while starting", "see logs/supervisor.log in the state")
