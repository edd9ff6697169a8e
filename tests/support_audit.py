"""Makes events and logs for the tests of the audit room."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from rempart.audit.log import MerkleLog
from rempart.audit.segment import HEADER_BYTES, SegmentHeader, read_batches, segment_numbers, segment_path
from rempart.audit.storage import DirectoryStorage
from rempart.crypto.signing import NoteSigner
from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import encode

SIGNER = NoteSigner("bank.example/rempart", bytes(range(32)))


def payload(id: str, source: str = "pdp", person: str = "usr_1", request_id: str | None = None) -> bytes:
    event = Event(
        type=EventType.DECISION,
        id=id,
        at=1_700_000_000.0,
        success=True,
        person=person,
        request_id=request_id,
        details={"rule": "r", "method": "GET", "path": "/wallet"},
    )
    return encode(event, source)


def open_log(state: Path) -> MerkleLog:
    return MerkleLog(storage(state), SIGNER)


def storage(state: Path) -> DirectoryStorage:
    """Without the lock, so that a test can open what an earlier object of its own left as a crash would."""
    return DirectoryStorage(state / "log", state / "state", lock=False)


def journaled(directory: Path) -> list[bytes]:
    """All payloads in the segments of a journal, by the format alone."""
    found = []
    for number in segment_numbers(directory):
        data = segment_path(directory, number).read_bytes()
        header = SegmentHeader.decode(data, segment_path(directory, number))
        batches, _ = read_batches(data[HEADER_BYTES:], HEADER_BYTES, header.seed)
        found += [record for batch in batches for _, record in batch.records]
    return found


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a coroutine function as a test."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run
