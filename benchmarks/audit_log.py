"""The Merkle log at a million events: integrating with personal data sealed, verifying from scratch, one proof.

`REMPART_BENCH_EVENTS` says how many (default a million, 0.7 GB below `REMPART_BENCH_DIR`). Times are of this process's
processor but for the proofs, which are what somebody waits.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

ORIGIN = "bench"
_BATCH = 16_384
_PERSONS = 500


def run() -> list[dict[str, Any]]:
    count = int(os.environ.get("REMPART_BENCH_EVENTS", "1000000"))
    with tempfile.TemporaryDirectory(prefix="bench", dir=os.environ.get("REMPART_BENCH_DIR")) as name:
        directory = Path(name)
        sealed, plain = (
            _integrate(directory, count, sealing=True),
            _integrate(directory / "plain", 65_536, sealing=False),
        )
        seconds = _verify(directory)
        proof = _proofs(directory)
        return [
            _row("integrate a person's event: seal, hash, write, sign", f"{sealed:,.0f} events/s a core", "≥ 30k/s"),
            _row("integrate an event without personal data", f"{plain:,.0f} events/s a core"),
            _row(f"verify a log of {count:,} events from scratch", f"{seconds:.1f} s CPU", "≤ 30 s"),
            _row("prove one event of it, and check that", f"{proof:.2f} ms", "≤ 5 ms"),
        ]


def _row(what: str, ours: str, target: str = "") -> dict[str, Any]:
    return {"what": what, "against": "", "ours": ours, "ratio": None, "target": target}


def decisions(start: int, count: int) -> list[bytes]:
    """Encoded; of 500 people with an address each."""
    from rempart.kernel.event import Event, EventType
    from rempart.protocols.ocsf import encode

    from .audit import _DETAILS

    def event(number: int) -> Event:
        person = f"usr_{number % _PERSONS}"
        return Event(
            type=EventType.DECISION,
            id=f"dec_{number}",
            at=1_800_000_000.0,
            success=True,
            reason="a person reads their own wallet",
            person=person,
            role="user",
            ip=f"192.0.2.{number % _PERSONS % 250}",
            service="wallet",
            request_id=f"{number:032x}",
            details=_DETAILS,
        )

    return [encode(event(number), "pdp") for number in range(start, start + count)]


def _open(directory: Path, *, sealing: bool) -> Any:
    from rempart.audit.log import MerkleLog
    from rempart.audit.personal import PersonalData
    from rempart.audit.storage import DirectoryStorage
    from rempart.backends.sqlite_person_keys import SqlitePersonKeys
    from rempart.crypto.signing import NoteSigner

    directory.mkdir(exist_ok=True)
    personal = PersonalData(SqlitePersonKeys(directory / "persons.db", bytes(32))) if sealing else None
    return MerkleLog(DirectoryStorage(directory / "log", directory / "state"), NoteSigner(ORIGIN, bytes(32)), personal)


def _integrate(directory: Path, count: int, *, sealing: bool) -> float:
    """Events a second of this processor, 1,024 at a time as the sequencer does."""
    log = _open(directory, sealing=sealing)
    events = decisions(0, _BATCH)
    spent, done = 0.0, 0
    while done < count:
        chunk = events[done % _BATCH : done % _BATCH + min(1024, count - done)]
        started = time.process_time()
        log.integrate(chunk, {})
        spent += time.process_time() - started
        done += len(chunk)
    log.close()
    return count / spent


def _verify(directory: Path) -> float:
    from rempart.audit.verifier import Key
    from rempart.audit.whole_log import verify_log
    from rempart.crypto.signing import NoteSigner, verify_ed25519

    started = time.process_time()
    report = verify_log(directory / "log", Key.parse(NoteSigner(ORIGIN, bytes(32)).verifier_key), verify_ed25519)
    if report.problems:
        raise AssertionError(report.problems[:3])
    return time.process_time() - started


def _proofs(directory: Path) -> float:
    """Milliseconds, the median of 200 all over the log, nothing remembered from before."""
    from rempart.audit.verifier import leaf_hash, root_from_inclusion

    log = _open(directory, sealing=True)
    times = []
    for number in range(200):
        index = number * 7919 % log.size
        started = time.perf_counter()
        path = log.prove_inclusion(index)
        if root_from_inclusion(leaf_hash(log.leaf(index)), index, log.size, path) != log.root:
            raise AssertionError(index)
        times.append((time.perf_counter() - started) * 1000)
    log.close()
    return statistics.median(times)
