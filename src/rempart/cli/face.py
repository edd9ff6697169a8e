"""The face of a supervisor once it is ready: waits for its end, for months, and passes Ctrl-C on.

Run as `python -I -S face.py PID FD PYTHON ARGUMENT …` in the place of the command that started the supervisor PID,
which stays a child of this process (execve(2)). The standard library only, and of it next to nothing: 10 MB in place of
the 38 to 65 of who has shown it coming up. FD is the reading end of its reports, PYTHON the interpreter that can tell
why it ended, the arguments are those of the command.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import NoReturn

STOP_WITHIN = 20.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_KEPT = 1 << 16


def stop(pid: int) -> int:
    """Ask the supervisor to stop and wait for it; kill it when it doesn't. Its exit code."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_WITHIN
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def interrupted(number: int, frame: object) -> None:
    """A handler of `SIGNALS`. The first Ctrl-C counts: a second one doesn't make it quicker."""
    _ignore()
    raise KeyboardInterrupt


def _ignore() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(2, text.encode() + b"\n")


def _wait(pid: int, reports: int) -> tuple[int, str]:
    """Until the supervisor ends or somebody ends it: its exit code, and the failure that it reported."""
    said = b""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        while chunk := os.read(reports, _KEPT):
            said = (said + chunk)[-_KEPT:]
        _ignore()  # it has ended
        failed = next((line.decode() for line in said.split(b"\n") if line.startswith(b'{"failed"')), "")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), failed
    except KeyboardInterrupt:
        _say("stopping …")
        ended = stop(pid)
        _say("stopped")
        return ended, ""


def main(pid: int, reports: int, python: str, shown: list[str]) -> NoReturn:
    for number in SIGNALS:
        signal.signal(number, interrupted)
    ended, failed = _wait(pid, reports)
    if ended == 0 and not failed:
        raise SystemExit(0)
    told = {"module": "ended", "arguments": {"status": ended, "failed": failed}}  # as `stay` hands over
    command = [python, "-P", "-m", "rempart.cli.stay", *shown]
    os.execve(python, command, {**os.environ, "REMPART_ARGUMENTS": json.dumps(told)})  # nosec B606 - our own command


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
