"""Audit events that are durable when acknowledged, against the disk itself; and what the sequencer takes an event.

The peer appends the same bytes to a file, 64 events a time, each batch followed by `fdatasync`: what 64 writers that
share one sync get from the disk when nothing else has to be done. Ours and the peer take turns. A second peer writes
into space that was reserved before (`posix_fallocate`). The journal stays open between its turns, and what it wrote is
given back as the sequencer does, so that it runs as it does after its first minutes.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from rempart.audit.segment import BATCH_BYTES, RECORD_BYTES
from rempart.kernel.event import Event, EventType

WRITERS = 64
EVENTS_EACH = 80
ROUNDS = 21
_DETAILS = {
    "rule": "wallet.owner",
    "policy_version": "sha256:2f1c5a0b8e",
    "pep": "wallet",
    "method": "GET",
    "path": "/wallet",
    "status": 200,
    "input": {"claims": {"sub": "usr_01", "role": "user"}, "segments": ["wallet"], "query": {"user_id": "usr_01"}},
}


def _event() -> Event:
    return Event(
        type=EventType.DECISION,
        at=time.time(),
        success=True,
        reason="a person reads their own wallet",
        person="usr_01",
        role="user",
        workload="spiffe://bank.example/rempart/gateway",
        ip="127.0.0.1",
        service="wallet",
        request_id="4a1f0a52-7a90-4b0e-9c67-9f6b5b8f2d11",
        details=_DETAILS,
    )


class _Ours:
    """A journal that 64 tasks write to."""

    def __init__(self, directory: Path) -> None:
        from rempart.audit.journal import Journal
        from rempart.audit.reader import JournalReader

        self._journal = Journal(directory, "bench")
        self._reader = JournalReader(directory)

    def turn(self, payload: bytes | None, writers: int = WRITERS) -> float:
        """Events a second; `payload` None: each event is made and encoded as well."""
        import uvloop

        async def write() -> None:
            for _ in range(EVENTS_EACH):
                if payload is not None:
                    await self._journal.record_bytes(payload)
                else:
                    await self._journal.record(_event())

        async def all_writers() -> float:
            started = time.perf_counter()
            await asyncio.gather(*(write() for _ in range(writers)))
            return writers * EVENTS_EACH / (time.perf_counter() - started)

        speed = uvloop.run(all_writers())
        while self._reader.read(10_000).records:
            pass
        self._reader.delete_integrated(self._reader.cursor)
        return speed

    def close(self) -> None:
        self._reader.close()
        self._journal.close()


def _raw(path: Path, payload: bytes, *, reserved: bool, writers: int = WRITERS) -> float:
    """Framed as ours is: a header for the batch, one for each record."""
    batch = bytes(BATCH_BYTES) + (bytes(RECORD_BYTES) + payload) * writers
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        if reserved:
            os.posix_fallocate(fd, 0, len(batch) * EVENTS_EACH)
        os.fsync(fd)
        started = time.perf_counter()
        for number in range(EVENTS_EACH):
            os.pwrite(fd, batch, number * len(batch))
            os.fdatasync(fd)
        return writers * EVENTS_EACH / (time.perf_counter() - started)
    finally:
        os.close(fd)
        path.unlink()


def _sequencer(state: Path) -> tuple[float, float]:
    """Microseconds of processor time for each event: into the tree, and into the index. 500 people's events, whose
    personal data is sealed; taken as from a long backlog."""
    from rempart.audit.journal import Journal
    from rempart.audit.log import MerkleLog
    from rempart.audit.personal import PersonalData
    from rempart.audit.sequencer import Sequencer
    from rempart.audit.storage import DirectoryStorage
    from rempart.backends.sqlite_person_keys import SqlitePersonKeys
    from rempart.backends.sqlite_search import SqliteSearch
    from rempart.crypto.signing import NoteSigner

    from .audit_log import decisions

    count, at_once = 65_536, 4096
    own = Journal(state / "journals" / "sequencer", "sequencer")
    pdp = Journal(state / "journals" / "pdp", "pdp")
    for start in range(0, count, at_once):
        for payload in decisions(start, at_once):
            pdp.append(payload)
        pdp.commit()
    personal = PersonalData(SqlitePersonKeys(state / "persons.db", bytes(32)))
    log = MerkleLog(DirectoryStorage(state / "log", state / "state"), NoteSigner("bench", bytes(32)), personal)
    sequencer = Sequencer(log, state / "journals", own, partial(SqliteSearch, state / "search.db", "bench"))
    integrating = indexing = 0.0
    read = 1
    while read:
        started = time.process_time()
        read = sequencer.cycle()
        integrated = time.process_time()
        while sequencer.index_some():
            pass
        integrating += integrated - started
        indexing += time.process_time() - integrated
    sequencer.close()
    pdp.close()
    own.close()
    if log.size != count:
        raise AssertionError(f"{log.size} of {count} events were integrated")
    return integrating / count * 1e6, indexing / count * 1e6


def _row(what: str, against: str, ours: list[float], peer: list[float], target: str = "") -> dict[str, Any]:
    return {
        "what": what,
        "against": against,
        "ours": f"{statistics.median(ours):,.0f} events/s",
        "peer": f"{statistics.median(peer):,.0f} events/s",
        "ratio": statistics.median(mine / its for mine, its in zip(ours, peer, strict=True)),
        "target": target,
    }


def run() -> list[dict[str, Any]]:
    from rempart.protocols.ocsf import encode

    payload = encode(_event(), "bench")
    with tempfile.TemporaryDirectory(prefix="bench", dir=os.environ.get("REMPART_BENCH_DIR")) as name:
        directory = Path(name)
        rows: list[dict[str, Any]] = []
        plain, reserved, ours, encoding = [], [], [], []
        journal = _Ours(directory / "journal")
        for _ in range(3):  # until files are used again
            journal.turn(payload)
        for _ in range(ROUNDS):
            ours.append(journal.turn(payload))
            plain.append(_raw(directory / "raw", payload, reserved=False))
            encoding.append(journal.turn(None))
            reserved.append(_raw(directory / "raw", payload, reserved=True))
        fewer: dict[int, tuple[list[float], list[float]]] = {1: ([], []), 16: ([], [])}
        for writers, (mine, its) in fewer.items():
            for _ in range(ROUNDS):
                mine.append(journal.turn(payload, writers))
                its.append(_raw(directory / "raw", payload, reserved=False, writers=writers))
        journal.close()
        raw = "raw batched fdatasync of the same bytes"
        rows.append(_row("durable audit events, 64 writers", raw, ours, plain, "≥ 0.8×"))
        for writers, (mine, its) in fewer.items():
            one = f"durable audit events, {writers} writer{'s' if writers > 1 else ''}"
            rows.append(_row(one, raw, mine, its, "≥ 0.8×"))
        rows.append(_row("64 writers", raw + ", into reserved space", ours, reserved))
        rows.append(_row("64 writers, OCSF encoding included", raw, encoding, plain))
        tree, index = _sequencer(directory / "sequencer")
        for what, spent, target in (("into the tree", tree, "≥ 30k/s"), ("and the index", tree + index, "≥ 30k/s")):
            ours = f"{1e6 / spent:,.0f} events/s a core ({spent:.0f} µs)"
            row = {"what": f"sequencer: {what}", "against": "", "ours": ours, "ratio": None, "target": target}
            rows.append(row)
    return rows


if __name__ == "__main__":
    for row in run():
        print(row)
