"""The process behind a connection: gone, replaced or changed, it is nobody."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from tests.support import eventually, short_directory

from rempart.kernel.errors import Denied
from rempart.workloads import process as module
from rempart.workloads.process import Process, start_time_of


@pytest.fixture
def listening() -> Iterator[tuple[socket.socket, str]]:
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as server:
        path = str(directory / "s")
        server.bind(path)
        server.listen()
        yield server, path


def child(path: str, then: str = "sys.stdin.read()") -> subprocess.Popen[bytes]:
    code = f"import os, socket, sys; c = socket.socket(socket.AF_UNIX); c.connect({path!r}); {then}"
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


def end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def test_it_is_the_process_that_connected(listening: tuple[socket.socket, str]) -> None:
    server, path = listening
    client = child(path)
    with server.accept()[0] as connection:
        peer = Process.behind(connection)
        assert (peer.pid, peer.uid, peer.gid) == (client.pid, os.getuid(), os.getgid())
        assert peer.start_time == start_time_of(client.pid)
        peer.verify_same()
        end(client)
        with pytest.raises(Denied) as refusal:
            peer.verify_same()
        assert refusal.value.code == "caller_changed"
        peer.close()


def test_who_is_gone_before_we_look_is_unknown(listening: tuple[socket.socket, str]) -> None:
    server, path = listening
    client = child(path, "0")
    connection = server.accept()[0]
    end(client)
    with connection, pytest.raises(Denied) as refusal:
        Process.behind(connection)
    assert refusal.value.code == "unknown_caller"


def test_the_same_pid_with_another_uid_or_program_is_somebody_else(
    listening: tuple[socket.socket, str],
) -> None:
    server, path = listening
    client = child(path)
    with server.accept()[0] as connection:
        peer = Process.behind(connection)
        for other in (
            replace(peer, uid=peer.uid + 1),
            replace(peer, program=(1, 1)),
            replace(peer, program=None),
        ):
            with pytest.raises(Denied):
                other.verify_same()
        end(client)
        peer.close()


def test_facts_of_a_pid_count_only_while_the_process_that_connected_lives(
    listening: tuple[socket.socket, str],
) -> None:
    """As after pid reuse: everything under /proc/PID is right, and the pidfd says that its process has ended."""
    server, path = listening
    gone = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
    dead = os.pidfd_open(gone.pid)
    end(gone)
    client = child(path)
    with server.accept()[0] as connection:
        peer = Process.behind(connection)
        with pytest.raises(Denied):
            replace(peer, pidfd=dead).verify_same()
        end(client)
        peer.close()
    os.close(dead)


def test_executing_another_program_is_noticed(listening: tuple[socket.socket, str]) -> None:
    server, path = listening
    client = child(path, "sys.stdin.readline(); os.execv('/bin/cat', ['cat'])")
    with server.accept()[0] as connection:
        peer = Process.behind(connection)
        assert client.stdin is not None
        client.stdin.write(b"\n")
        client.stdin.flush()
        eventually(lambda: os.readlink(f"/proc/{client.pid}/exe") == os.path.realpath("/bin/cat"))
        with pytest.raises(Denied):
            peer.verify_same()
        end(client)
        peer.close()


def test_older_kernels_give_a_pidfd_another_way(
    listening: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SO_PEERPIDFD", 9999)
    server, path = listening
    client = child(path)
    with server.accept()[0] as connection:
        peer = Process.behind(connection)
        assert peer.alive()
        end(client)
        assert not peer.alive()
        peer.close()


def test_a_name_with_brackets_and_spaces_does_not_move_the_start_time(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 2 (b"
    program.symlink_to("/bin/cat")
    running = subprocess.Popen([str(program)], stdin=subprocess.PIPE)
    try:
        assert 0 <= start_time_of(running.pid) - start_time_of(os.getpid()) < 100 * 3600 * 24 * 365
        assert start_time_of(running.pid) >= start_time_of(os.getpid())
    finally:
        end(running)


class _CloneArguments(ctypes.Structure):
    """clone3(2)."""

    _fields_: ClassVar = [
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls"),
            *("set_tid", "set_tid_size"),
        )
    ]


def reborn_as(pid: int, *command: str) -> bool:
    """Run `command` under this very pid, which is free now. False where the kernel doesn't let us choose."""
    wanted = (ctypes.c_int32 * 1)(pid)
    arguments = _CloneArguments(exit_signal=signal.SIGCHLD, set_tid=ctypes.addressof(wanted), set_tid_size=1)
    made = ctypes.CDLL(None).syscall(435, ctypes.byref(arguments), ctypes.sizeof(arguments))
    if made == 0:
        os.execv(command[0], command)
    return bool(made == pid)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to choose a pid")
def test_who_takes_over_the_pid_of_who_connected_is_nobody(listening: tuple[socket.socket, str]) -> None:
    """Real reuse: the first one connects, leaves its connection to a child and ends; a second one of the same user and
    program is started under its pid, before anybody looked who is behind the connection."""
    server, path = listening
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import os, socket, sys; c = socket.socket(socket.AF_UNIX); c.connect({path!r})\n"
            "if os.fork() == 0: sys.stdin.read()\n"
            "os._exit(0)",
        ],
        stdin=subprocess.PIPE,
    )
    connection = server.accept()[0]
    holder.wait()  # reaped: its pid is free; its child still has the connection
    if not reborn_as(holder.pid, sys.executable, "-c", "import sys; sys.stdin.read(0); input()"):
        pytest.skip("this kernel doesn't let us choose a pid")
    try:
        assert start_time_of(holder.pid)
        with connection, pytest.raises(Denied) as refusal:
            Process.behind(connection)
        assert refusal.value.code == "unknown_caller"
    finally:
        assert holder.stdin is not None
        holder.stdin.close()
        os.kill(holder.pid, signal.SIGKILL)
        os.waitpid(holder.pid, 0)


_IN_ANOTHER_NAMESPACE = """
import socket, sys
from rempart.kernel.errors import Denied
from rempart.workloads.process import Process
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("listening", flush=True)
try:
    Process.behind(server.accept()[0])
    print("taken for somebody")
except Denied as error:
    print(error.code)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a pid namespace")
def test_a_process_of_a_pid_namespace_that_we_can_not_see_into_is_nobody() -> None:
    with short_directory() as directory:
        path = str(directory / "s")
        server = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", _IN_ANOTHER_NAMESPACE, path],
            stdout=subprocess.PIPE,
        )
        assert server.stdout is not None
        assert server.stdout.readline() == b"listening\n"
        with socket.socket(socket.AF_UNIX) as outside:
            outside.connect(path)
            assert server.communicate(timeout=10)[0] == b"unknown_caller\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a pid namespace")
def test_in_a_namespace_of_its_own_a_process_is_still_who_it_is_here(listening: tuple[socket.socket, str]) -> None:
    """It calls itself pid 1 or what it likes, and mounts a /proc of its own: we see our own number of it."""
    server, path = listening
    code = f"import socket, sys; c = socket.socket(socket.AF_UNIX); c.connect({path!r}); sys.stdin.read()"
    client = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code], stdin=subprocess.PIPE
    )
    with server.accept()[0] as connection:
        peer = Process.behind(connection)
        assert peer.pid not in (1, client.pid)
        assert Path(f"/proc/{peer.pid}/exe").resolve() == Path(sys.executable).resolve()
        assert f"\nPPid:\t{client.pid}\n" in Path(f"/proc/{peer.pid}/status").read_text()
        peer.verify_same()
        end(client)
        peer.close()


def test_before_linux_6_13_the_uid_is_that_of_the_pid() -> None:
    with open(os.devnull) as no_pidfd:
        assert module._effective_uid(os.getpid(), no_pidfd.fileno()) == os.geteuid()
