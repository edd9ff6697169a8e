"""Events to other systems (SIEMs): one shipment for each sink, independent of all others.

At least once, in the log's order. The cursor, `NAME.cursor`, moves only when the sink confirmed, and is durable before
the next batch goes out: after any crash the same events are sent again, and each sink recognises them by their ids. A
sink that is away is asked again, ever more slowly; it holds up nothing, since what it has not got yet is in the log.
What a sink can never take (a mapping error) goes to `NAME.rejected.jsonl`, durably, before the cursor goes past it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from rempart.kernel.clock import Clock
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import Integrity, RempartError, Unavailable
from rempart.kernel.event import EventType, Severity

from .feed import DELETED, Page
from .ports import Busy, Feed, Item, Sink

LARGEST_BATCH = 2048
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
MAX_REJECTED_BYTES = 64 << 20
_WAIT = 20.0
_TELL_EVERY = 60.0  # seconds between events about rejected ones

_log = logging.getLogger("rempart.shipper")

Tell = Callable[[EventType, str, Severity, Mapping[str, Any]], Awaitable[None]]


class Cursor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`next` is the first index that the sink has not confirmed; `mark` is the sink's own, kept with it."""

    next: int = 0
    mark: dict[str, Any] = {}


@dataclass(slots=True)
class Progress:
    """Since the process started, but for `next`. `behind_since`: since when something has been waiting (monotonic)."""

    next: int = 0
    size: int = 0
    sent: int = 0
    bytes: int = 0
    rejected: int = 0
    failures: int = 0
    failing: str = ""
    behind_since: float | None = None
    batch: int = LARGEST_BATCH
    sent_at: float | None = field(default=None)  # seconds since the epoch


class Shipment:
    """Runs in one task. `directory` is its own; `tell` records an event durably."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        feed: Feed,
        directory: Path,
        clock: Clock,
        tell: Tell,
        shown: Callable[[bytes], bytes] = bytes,
    ) -> None:
        """`shown`: what this sink is given of an event. Raises Integrity `bad_cursor` when the cursor was damaged:
        nothing is guessed."""
        self.name = name
        self.progress = Progress()
        self._sink, self._feed, self._clock, self._tell, self._shown = sink, feed, clock, tell, shown
        self._cursor_path = directory / f"{name}.cursor"
        self._rejected_path = directory / f"{name}.rejected.jsonl"
        self._cursor = self._load()
        self.progress.next = self._cursor.next
        self._pause = FIRST_PAUSE
        self._untold = 0
        self._told_at: float | None = None

    @property
    def lag_seconds(self) -> float:
        since = self.progress.behind_since
        return 0.0 if since is None else self._clock.monotonic() - since

    async def run(self) -> None:
        """Until cancelled; never ends for what a sink, the network or the disk does."""
        try:
            while True:
                try:
                    await self._ship_page(await self._read())
                except (RempartError, OSError) as error:
                    await self._failed(error)
                except Exception as error:  # whatever a receiver answers, the other sinks go on
                    _log.exception("%s failed", self.name)
                    await self._failed(Unavailable("sink_broken", f"{type(error).__name__} at its answer"))
        finally:
            await self._sink.close()

    async def _read(self) -> Page:
        start = self._cursor.next
        page = await self._feed.read(start, _WAIT)
        if page.size < start:
            raise Integrity(
                "log_rewound",
                f"the log has {page.size} events, of which {start} were sent to {self.name}",
                f"restore the log; if that is right, delete {self._cursor_path}",
            )
        self.progress.size = page.size
        if page.events and self.progress.behind_since is None:
            self.progress.behind_since = self._clock.monotonic()
        return page

    async def _ship_page(self, page: Page) -> None:
        items = [
            Item(page.start + offset, id, self._shown(bytes(event)))
            for offset, (id, event) in enumerate(zip(page.ids, page.events, strict=True))
            if not id.startswith(DELETED)
        ]
        at = 0
        while at < len(items):
            batch = items[at : at + self.progress.batch]
            try:
                sent = await self._sink.send(batch, self._cursor.mark)
            except Busy:
                self.progress.batch = max(1, min(len(batch), self.progress.batch) // 2)
                raise
            await self._rejected(batch, sent.rejected)
            self._save(Cursor(batch[-1].index + 1, dict(sent.mark)))
            at += len(batch)
            await self._succeeded(batch, len(sent.rejected))
        end = page.start + len(page.events)
        if self._cursor.next < end:  # retention deleted the last ones before the sink could take them
            self._save(Cursor(end, self._cursor.mark))
            self.progress.next = end
        if self._cursor.next >= page.size:
            self.progress.behind_since = None

    async def _succeeded(self, batch: Sequence[Item], rejected: int) -> None:
        progress = self.progress
        progress.next = self._cursor.next
        progress.sent += len(batch) - rejected
        progress.bytes += sum(len(item.payload) for item in batch)
        progress.sent_at = self._clock.now()
        progress.batch = min(LARGEST_BATCH, progress.batch + progress.batch // 8 + 1)
        self._pause = FIRST_PAUSE
        if progress.failing:
            progress.failing = ""
            await self._say(EventType.SINK_RECOVERED, f"{self.name} takes events again", Severity.INFO, {})

    async def _rejected(self, batch: Sequence[Item], rejected: Mapping[int, str]) -> None:
        """Durable before the cursor moves. Raises Unavailable `rejected_full`."""
        if not rejected:
            return
        lines = [
            msgspec.json.encode({"at": self._clock.now(), "index": item.index, "why": rejected[item.index][:500]})
            + b"\n"
            for item in batch
            if item.index in rejected
        ]
        fd = os.open(self._rejected_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size > MAX_REJECTED_BYTES:
                raise Unavailable(
                    "rejected_full",
                    f"{self._rejected_path} is larger than {MAX_REJECTED_BYTES >> 20} MiB",
                    f"see why {self.name} refuses events, then move the file away",
                )
            whole = os.fstat(fd).st_size
            try:
                _write(fd, b"".join(lines))
            except OSError:
                os.ftruncate(fd, whole)  # no half a line: it would take the next one with it
                raise
            os.fsync(fd)
        finally:
            os.close(fd)
        self.progress.rejected += len(lines)
        self._untold += len(lines)
        now = self._clock.monotonic()
        if self._told_at is None or now - self._told_at >= _TELL_EVERY:
            first = next(item.index for item in batch if item.index in rejected)
            await self._say(
                EventType.SINK_REJECTED,
                f"{self.name} refused {self._untold} events for good: {rejected[first]}"[:300],
                Severity.HIGH,
                {"count": self._untold, "index": first},
            )
            self._untold, self._told_at = 0, now

    async def _failed(self, error: RempartError | OSError) -> None:
        progress = self.progress
        progress.failures += 1
        if progress.behind_since is None:
            progress.behind_since = self._clock.monotonic()
        why = error.reason if isinstance(error, RempartError) else str(error)
        first, progress.failing = not progress.failing, why
        if first:
            severity = Severity.CRITICAL if isinstance(error, Integrity) else Severity.HIGH
            code = error.code if isinstance(error, RempartError) else "disk"
            await self._say(EventType.SINK_FAILED, f"{self.name}: {why}"[:300], severity, {"code": code})
        pause = self._pause * random.uniform(0.75, 1.0)  # nosec B311 - spreads the attempts, nothing more
        self._pause = min(LONGEST_PAUSE, self._pause * 2)
        await asyncio.sleep(max(pause, error.retry_after if isinstance(error, Busy) else 0.0))

    async def _say(self, kind: EventType, reason: str, severity: Severity, details: Mapping[str, Any]) -> None:
        try:
            await self._tell(kind, reason, severity, {"sink": self.name, "next": self._cursor.next, **details})
        except RempartError:
            return  # the journal is full: `failing` and the metrics say it, and events are still shipped

    def _load(self) -> Cursor:
        try:
            return msgspec.json.decode(self._cursor_path.read_bytes(), type=Cursor)
        except FileNotFoundError:
            return Cursor()
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Integrity(
                "bad_cursor", f"{self._cursor_path} is damaged", "delete it: events are sent again from the first"
            ) from None

    def _save(self, cursor: Cursor) -> None:
        replace_file(self._cursor_path, msgspec.json.encode(cursor))
        self._cursor = cursor


def _write(fd: int, data: bytes) -> None:
    """All of it. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
