"""What many tests need: waiting for a condition, free ports, short temporary directories."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within: float = 5.0, every: float = 0.02, why: str = "") -> T:
    """Return the first truthy answer of `condition`; fail after `within` seconds.

    An AssertionError or OSError raised by `condition` counts as "not yet", and the last one explains the failure.
    """
    deadline = time.monotonic() + within
    last: BaseException | None = None
    while True:
        try:
            answer = condition()
            if answer:
                return answer
            last = None
        except (AssertionError, OSError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(why or f"not within {within} s: {condition}") from last
        time.sleep(every)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def short_directory(prefix: str = "rp") -> Iterator[Path]:
    """A private directory whose path is short enough for unix sockets inside it; removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
