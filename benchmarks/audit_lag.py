"""How far tree and search of a sequencer are behind while a process records 5,000 events a second for ten seconds.

How far behind: the age of the oldest event that is durable in its journal and not in the tree, or not found by
searches, at each look (twenty a second).
"""

from __future__ import annotations

import bisect
import os
import threading
import time
from pathlib import Path
from typing import Any

from .audit_log import decisions

RATE = 5000
SECONDS = 10
_AT_ONCE = 100


def run() -> list[dict[str, Any]]:
    from tests.support import short_directory
    from tests.support_sequencer import running_sequencer

    from rempart.audit.journal import Journal

    with short_directory() as state, running_sequencer(state) as sequencer:
        journal = Journal(sequencer.journals / "pdp", "pdp")
        if sequencer.process is None:
            raise AssertionError("the sequencer doesn't run")
        pid = sequencer.process.pid
        with sequencer.client() as client:
            before, busy = client.get("/index").json()["size"], _processor(pid)
            written: list[float] = []  # when each was durable
            done = threading.Event()
            writer = threading.Thread(target=_write, args=(journal, written, done))
            writer.start()
            tree, search = [], []
            while not done.is_set() or search[-1] > 0:
                now, at = time.perf_counter(), client.get("/index").json()
                tree.append(_age(written, at["size"] - before, now))
                search.append(_age(written, at["indexed"] - before, now))
                time.sleep(0.05)
            writer.join()
            share = (_processor(pid) - busy) / len(written) * 1e6
        journal.close()
    rate = len(written) / (written[-1] - written[0])
    rows = []
    for what, ages in (("the tree", tree), ("search", search)):
        ages.sort()
        ours = f"{ages[-1]:.2f} s behind at most, {ages[len(ages) // 2]:.2f} s median"
        rows.append({"what": f"{what}, at {rate:,.0f} events/s", "ours": ours, "target": "≤ 1 s"})
    rows.append({"what": "the sequencer's process, all it does for an event", "ours": f"{share:.0f} µs CPU"})
    return [{"against": "", "ratio": None, **row} for row in rows]


def _write(journal: Any, written: list[float], done: threading.Event) -> None:
    payloads = decisions(0, RATE * SECONDS)
    began = time.perf_counter()
    for start in range(0, len(payloads), _AT_ONCE):
        for payload in payloads[start : start + _AT_ONCE]:
            journal.append(payload)
        journal.commit()
        written.extend([time.perf_counter()] * _AT_ONCE)
        time.sleep(max(0.0, began + (start + _AT_ONCE) / RATE - time.perf_counter()))
    done.set()


def _age(written: list[float], taken: int, now: float) -> float:
    """How long ago the oldest was written that is not taken yet."""
    due = bisect.bisect(written, now)
    return now - written[taken] if taken < due else 0.0


def _processor(pid: int) -> float:
    """Seconds that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
