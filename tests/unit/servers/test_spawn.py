"""The launcher, run for real: what a launched program has, and what it lacks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import eventually

from rempart.servers.spawn import Launch, parent_of, spawn, start_time

REPORT = """
import json, os, resource, sys
status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "env": dict(os.environ), "cwd": os.getcwd(), "umask": status["Umask"], "nnp": status["NoNewPrivs"],
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")),
    "core": resource.getrlimit(resource.RLIMIT_CORE), "session": os.getsid(0) == os.getpid(),
    "third": os.read(3, 99).decode() if len(sys.argv) > 1 else "",
}))
"""


async def run(argv, *, stdin=subprocess.DEVNULL, **more) -> tuple[int, str]:
    read, write = os.pipe()
    child = spawn(Launch(argv=tuple(argv), env={"A": "1"}, parent=os.getpid(), **more), stdout=write, stderr=write)
    os.close(write)
    status = await asyncio.wait_for(child.exited, 10)
    with os.fdopen(read) as output:
        return status, output.read()


def test_a_program_starts_confined():
    first, second = socket.socketpair()
    second.send(b"hello")
    with first, second:
        spare = os.open("/dev/null", os.O_RDONLY)
        argv = (sys.executable, "-I", "-c", REPORT, "read")
        status, output = asyncio.run(run(argv, cwd="/tmp", umask=0o027, fds=(first.fileno(),)))
        os.close(spare)
    assert status == 0, output
    told = json.loads(output)
    assert told["env"].pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # Python's own doing
    assert told["env"] == {"A": "1"}
    assert (told["cwd"], told["umask"], told["nnp"], told["core"]) == ("/tmp", "0027", "1", [0, 0])
    assert told["session"]
    assert told["third"] == "hello"
    assert [fd for fd in told["fds"] if fd > 3] == []


def test_a_program_that_is_not_there_is_told():
    status, output = asyncio.run(run(("/no/such/program",)))
    assert status == 125
    assert "/no/such/program" in output


def test_a_child_dies_with_the_process_that_started_it():
    script = (
        "import asyncio, os, sys\n"
        "from rempart.servers.spawn import Launch, spawn\n"
        "async def main():\n"
        "    child = spawn(Launch(argv=('/bin/sleep', '60'), env={}, parent=os.getpid()), stdout=1, stderr=2)\n"
        "    while open(f'/proc/{child.pid}/comm').read() != 'sleep\\n': await asyncio.sleep(0.01)\n"
        "    print(child.pid, flush=True); os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    eventually(lambda: start_time(pid) is None or " Z " in Path(f"/proc/{pid}/stat").read_text())


def test_start_times_tell_processes_apart():
    assert start_time(os.getpid()) == start_time(os.getpid())
    assert start_time(os.getpid()) != start_time(1)
    assert parent_of(os.getpid()) == os.getppid()
    assert start_time(2**22 + 1) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_root_a_program_becomes_another_user_for_good():
    from rempart.servers.spawn import Ids

    script = "import os\nprint(os.getresuid(), os.getresgid(), os.getgroups())\nos.setuid(0)"
    status, output = asyncio.run(
        run((os.path.realpath(sys.executable), "-I", "-c", script), ids=Ids(61000, 61001, (61002,)))
    )
    assert status == 1
    assert "(61000, 61000, 61000) (61001, 61001, 61001) [61002]" in output
    assert "PermissionError" in output
