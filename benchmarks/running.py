"""The whole system, started for a benchmark and stopped after it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess  # nosec B404 - starts our own command
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from rempart.audit.reader import Cursor, JournalReader
from rempart.audit.segment import segment_numbers

REMPART = str(Path(sys.executable).parent / "rempart")
BANK = Path(__file__).parents[1] / "examples" / "bank"


def rempart(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # nosec B603 - our own command, fixed arguments
        [REMPART, *arguments], capture_output=True, text=True, timeout=timeout, check=True
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(state: Path, listen: str, *extra: str) -> float:
    """Start the bank detached; seconds until it said it was ready."""
    began = time.perf_counter()
    rempart("up", str(BANK), "--detach", "--state", str(state), "--listen", listen, *extra)
    return time.perf_counter() - began


def status(state: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(rempart("status", "--json", "--state", str(state)).stdout)
    return document


@contextmanager
def bank(*extra: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the state directory and the status document of a fresh, running bank."""
    state = Path(tempfile.mkdtemp(prefix="rb", dir="/tmp"))  # nosec B108 - mkdtemp makes it private; sockets need a short path
    try:
        start(state, f"127.0.0.1:{free_port()}", *extra)
        try:
            yield state, status(state)
        finally:
            rempart("down", "--state", str(state))
    finally:
        shutil.rmtree(state, ignore_errors=True)


@contextmanager
def given_back(journal: Path) -> Iterator[None]:
    """Meanwhile full segments are given back to whoever writes this journal, as the sequencer does with what it has.

    Without, a second's decisions are written into files, and memory, that were never used before: on a host that lends
    its guests memory page by page that is 7 µs for each."""
    stopping = Event()

    def give_back() -> None:
        reader = JournalReader(journal)
        while not stopping.wait(0.05):
            newest = max(segment_numbers(journal), default=0)
            reader.delete_integrated(Cursor(newest, offset=0, sequence=0, journal_id=""))

    giving = Thread(target=give_back)
    giving.start()
    try:
        yield
    finally:
        stopping.set()
        giving.join()


def memory(pid: int, what: str = "Rss") -> float:
    """Resident, in MiB; `Pss` shares what several processes have mapped among them."""
    told = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return int(next(line for line in told.splitlines() if line.startswith(f"{what}:")).split()[1]) / 1024
