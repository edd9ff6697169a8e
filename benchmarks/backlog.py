"""A sequencer that comes back to a journal of a million events, while decisions go on.

`REMPART_BENCH_EVENTS` says how many (default a million; some 1 GB below `REMPART_BENCH_DIR`). The writer is another
process without syncs: only its bytes are wanted here.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

ORIGIN = "bench"
_AT_ONCE = 1024
_EACH = 2  # cycles between two decisions


def run() -> list[dict[str, Any]]:
    count = int(os.environ.get("REMPART_BENCH_EVENTS", "1000000"))
    with tempfile.TemporaryDirectory(prefix="bench", dir=os.environ.get("REMPART_BENCH_DIR")) as name:
        directory = Path(name)
        _write_elsewhere(directory, count)
        seconds, grown, longest, decided = _work_off(directory, count)
        return [
            _row(f"a backlog of {count:,} events, each in the log once", f"{count / seconds:,.0f} events/s"),
            _row("memory grown meanwhile", f"{grown / 1024:.0f} MiB", "bounded"),
            _row(f"{decided} decisions recorded meanwhile, the slowest", f"{longest * 1000:.1f} ms"),
        ]


def _row(what: str, ours: str, target: str = "") -> dict[str, Any]:
    return {"what": what, "against": "", "ours": ours, "ratio": None, "target": target}


def _write_elsewhere(directory: Path, count: int) -> None:
    """In a child, so that this process's memory is the sequencer's alone."""
    child = os.fork()
    if child == 0:
        try:
            _write(directory, count)
            os._exit(0)
        except BaseException:
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise AssertionError("the journal could not be written")


def _write(directory: Path, count: int) -> None:
    from rempart.audit.journal import Journal
    from rempart.kernel.event import Event, EventType
    from rempart.protocols.ocsf import encode

    os.fdatasync = lambda fd: None
    journal = Journal(directory / "journals/people", "people", max_backlog_bytes=4 << 30)
    at = 1_800_000_000.0
    for number in range(count):
        login = Event(type=EventType.LOGIN, id=f"evt_{number}", at=at, success=True, person=f"usr_{number % 500}")
        journal.append(encode(login, "people"))
        if number % _AT_ONCE == 0:
            journal.commit()
    journal.commit()
    journal.close()


def _work_off(directory: Path, count: int) -> tuple[float, int, float, int]:
    """Seconds, KiB of memory grown, the slowest decision's seconds, how many were recorded."""
    from rempart.audit.journal import Journal
    from rempart.audit.log import MerkleLog
    from rempart.audit.sequencer import Sequencer
    from rempart.audit.storage import DirectoryStorage
    from rempart.backends.sqlite_search import SqliteSearch
    from rempart.crypto.signing import NoteSigner

    from .audit_log import decisions

    own, pdp = (Journal(directory / f"journals/{name}", name) for name in ("sequencer", "pdp"))
    log = MerkleLog(DirectoryStorage(directory / "log", directory / "state"), NoteSigner(ORIGIN, bytes(32)))
    sequencer = Sequencer(log, directory / "journals", own, lambda: SqliteSearch(directory / "search.db", ORIGIN))
    made = decisions(0, 4096)
    longest, decided, cycles = 0.0, 0, 0
    before, started = _resident(), time.monotonic()
    while sequencer.cycle() or sequencer.behind:
        sequencer.index_some()
        cycles += 1
        if cycles % _EACH == 0 and decided < len(made):
            begun = time.monotonic()
            pdp.append(made[decided])
            pdp.commit()
            longest, decided = max(longest, time.monotonic() - begun), decided + 1
    seconds, grown = time.monotonic() - started, _resident() - before
    if log.size != count + decided or sequencer.counts.alarms:
        raise AssertionError(f"{log.size} events of {count + decided}, {sequencer.counts.alarms} alarms")
    sequencer.close()
    for one in (log, own, pdp):
        one.close()
    return seconds, grown, longest, decided


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024
