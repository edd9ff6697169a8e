"""Reading the access logs that Envoys write into pipes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from .access_log import MAX_LINE_BYTES

_CHUNK = 1 << 16


class LineReader:
    """Calls `take` with each line that comes out of a pipe. A line longer than MAX_LINE_BYTES is dropped."""

    def __init__(self, fd: int, take: Callable[[bytes], None]) -> None:
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        self._fd = fd
        self._take = take
        self._rest = b""
        self._dropping = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._fd, self._readable, loop)

    def _readable(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        if not data:  # every writer is gone: the supervisor gives a new pipe when it starts us again
            loop.remove_reader(self._fd)
            os.close(self._fd)
            return
        *lines, rest = (self._rest + data).split(b"\n")
        if self._dropping and lines:
            lines = lines[1:]
            self._dropping = False
        if len(rest) > MAX_LINE_BYTES:
            rest = b""
            self._dropping = True
        self._rest = rest
        for line in lines:
            self._take(line)
