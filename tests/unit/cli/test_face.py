"""The small process that a foreground command becomes, beside a supervisor that does what each test wants."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from tests.support import eventually

from rempart.cli import face, supervised
from rempart.servers import host
from rempart.servers.spawn import bare_python

FAILED = {"failed": {"code": "state_gone", "reason": "it was deleted", "remedy": "restore it", "exit": 3}}
STOPS = "signal.signal(signal.SIGTERM, lambda *_: os._exit(0))"


@contextmanager
def showing(supervisor: str) -> Iterator[subprocess.Popen[str]]:
    """The face of a supervisor that runs this Python; `reports` is its end of the pipe. Ctrl-C may be sent at once."""
    begin = f"""
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGINT, signal.SIGTERM}})
read, reports = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(read)
    {supervisor}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {{signal.SIGINT, signal.SIGTERM}})
    while True:
        signal.pause()
os.close(reports)
os.set_inheritable(read, True)
command = [*{bare_python(face.__file__)!r}, str(pid), str(read), sys.executable, "up", "bank"]
os.execv(command[0], command)
"""
    with subprocess.Popen([sys.executable, "-c", begin], stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def shown(running: subprocess.Popen[str]) -> bool:
    return face.__file__.encode() in Path(f"/proc/{running.pid}/cmdline").read_bytes().split(b"\0")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_the_supervisor_in_order(number: int) -> None:
    with showing(STOPS) as running:
        eventually(lambda: shown(running))
        running.send_signal(number)
        assert running.wait(10) == 0
        assert running.stderr is not None
        assert running.stderr.read() == "stopping …\nstopped\n"


def test_a_second_ctrl_c_changes_nothing() -> None:
    slow = "signal.signal(signal.SIGTERM, lambda *_: None); signal.signal(signal.SIGUSR1, lambda *_: os._exit(0))"
    with showing(slow + "; os.write(2, f'{os.getpid()}\\n'.encode())") as running:
        assert running.stderr is not None
        pid = int(running.stderr.readline())
        eventually(lambda: shown(running))
        running.send_signal(signal.SIGINT)
        assert running.stderr.readline() == "stopping …\n"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            running.send_signal(number)
        os.kill(pid, signal.SIGUSR1)
        assert running.stderr.read() == "stopped\n"
        assert running.wait(10) == 0


def test_ctrl_c_is_not_lost_while_one_becomes_the_other() -> None:
    for _ in range(20):
        with showing(STOPS) as running:
            while running.poll() is None and not (blocks(running) or shown(running)):
                pass
            running.send_signal(signal.SIGINT)
            assert running.wait(10) == 0


def blocks(running: subprocess.Popen[str]) -> bool:
    status = Path(f"/proc/{running.pid}/status").read_text()
    blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
    return bool(blocked & 1 << signal.SIGINT - 1)


def test_one_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "STOP_WITHIN", 0.1)
    deaf = (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); print(flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        assert face.stop(stubborn.pid) == -signal.SIGKILL
        stubborn.returncode = -signal.SIGKILL


def test_a_supervisor_that_ends_well_ends_it_well() -> None:
    with showing("os._exit(0)") as running:
        assert running.wait(10) == 0


def test_what_it_failed_with_is_told_as_the_command_would() -> None:
    with showing(f"os.write(reports, {json.dumps(FAILED).encode()!r} + b'\\n'); os._exit(3)") as running:
        assert running.stderr is not None
        said = running.stderr.read()
        assert running.wait(10) == 3, said
        assert "it was deleted [state_gone]" in said
        assert "restore it" in said


def test_a_supervisor_that_was_killed_is_told() -> None:
    with showing("os.kill(os.getpid(), signal.SIGKILL)") as running:
        assert running.stderr is not None
        said = running.stderr.read()
        assert running.wait(10) == 3
        assert "ended with -9 [supervisor_died]" in said
        assert "Traceback" not in said


def test_it_is_small() -> None:
    code = f"import runpy; runpy.run_path({face.__file__!r}); print(open('/proc/self/status').read())"
    bare = bare_python(face.__file__)[:-1]
    said = subprocess.run([*bare, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(next(line for line in said.splitlines() if line.startswith("VmRSS")).split()[1]) < 14 << 10


def test_ctrl_c_before_it_is_ready_stops_it_and_is_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    handlers = {number: signal.getsignal(number) for number in face.SIGNALS}
    monkeypatch.setattr(host, "start_supervisor", lambda prepared, detach: (_pausing(), -1))
    monkeypatch.setattr(supervised, "_follow_start", _interrupted)
    monkeypatch.setattr(supervised, "say", said.append)
    try:
        with pytest.raises(KeyboardInterrupt):
            supervised.attend(None, 0.0, detach=False, tell=lambda status: None)  # type: ignore[arg-type]
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert said == ["stopping …", "stopped"]


def _pausing() -> int:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pause()
        os._exit(1)
    return pid


def _interrupted(reports: int, began: float) -> NoReturn:
    raise KeyboardInterrupt
