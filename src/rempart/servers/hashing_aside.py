"""Verifies passwords for strangers during a flood of logins, in a process that runs only when nobody else wants to.

Threads would not do: the kernel would take the processor from one of them while it holds the interpreter's lock, and
every request of the process would wait for it. So `HashingAside` starts this module as a process at the first flood and
talks with it over a socket pair: `[number, text, encoded]` there, `[number, verified]` back, one message each. The
process has no key and no file; it ends when the socket does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess  # nosec B404 - starts this module
import sys
import threading
import time
from collections.abc import Callable

import msgspec

_MOST = 8192  # bytes of a message
_PAUSE = 5.0  # seconds between two starts
_READY = 0  # the number of its first message


class HashingAside:
    """Implements `people.hashing_pool.Aside`."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: dict[int, asyncio.Future[bool | None]] = {}
        self._number, self._ready, self._start_from = _READY, False, 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def width(self) -> int:
        return self._width

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self, then: Callable[[], None]) -> None:
        if self._socket is not None or time.monotonic() < self._start_from:
            return
        self._start_from = time.monotonic() + _PAUSE
        if self._process is not None and self._process.poll() is None:
            self._process.kill()  # it lost its socket and has not noticed: the next time
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = [sys.executable, "-m", "rempart.servers.hashing_aside", str(self._width)]
            try:
                self._process = subprocess.Popen(argv, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)  # nosec B603 - ourselves
            except OSError:  # no process, no memory: the threads go on
                ours.close()
                return
        ours.setblocking(False)
        self._socket = ours
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(ours.fileno(), self._answered, then)

    async def verify(self, text: str, encoded: str) -> bool | None:
        if self._socket is None:
            return None
        self._number += 1
        answer: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        self._asked[self._number] = answer
        try:
            self._socket.send(msgspec.msgpack.encode((self._number, text, encoded)))
        except OSError:
            self._lost()
        return await answer

    def close(self) -> None:
        """From any thread. It stands in nobody's way for long: it is killed."""
        self._start_from = float("inf")
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed by now
                self._loop.call_soon_threadsafe(self._lost)
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # even its end waits for time left over
                self._process.wait(5)

    def _answered(self, then: Callable[[], None]) -> None:
        try:
            while self._socket is not None:
                message = self._socket.recv(_MOST)
                if not message:
                    raise ConnectionResetError
                number, verified = msgspec.msgpack.decode(message, type=tuple[int, bool])
                if number == _READY:
                    self._ready = True
                    then()
                elif (answer := self._asked.pop(number, None)) is not None and not answer.done():
                    answer.set_result(verified)
        except BlockingIOError:
            return
        except (OSError, msgspec.DecodeError):
            self._lost()

    def _lost(self) -> None:
        self._ready = False
        if self._socket is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            if not answer.done():
                answer.set_result(None)


def main() -> None:
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # sched(7): yields to every other task at once
    from rempart.crypto.passwords import Argon2id

    asked = socket.socket(fileno=0)
    hasher = Argon2id()

    def work() -> None:
        """The kernel gives each message to one of the threads, whole. Who asked a thread that failed would wait for
        ever, so the process ends with it, and what was asked is verified elsewhere."""
        try:
            while message := asked.recv(_MOST):
                number, text, encoded = msgspec.msgpack.decode(message, type=tuple[int, str, str])
                asked.send(msgspec.msgpack.encode((number, hasher.verify(text, encoded))))
        except OSError:
            return
        except BaseException:
            os._exit(1)

    threads = [threading.Thread(target=work) for _ in range(int(sys.argv[1]))]
    for thread in threads:
        thread.start()
    asked.send(msgspec.msgpack.encode((_READY, True)))
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
