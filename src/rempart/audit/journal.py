"""A process's own journal: an event that was acknowledged is on disk, whatever crashes afterwards.

One process writes a journal (a lock refuses a second one), the sequencer reads it and deletes the segments that it has
integrated. The format is `rempart.audit.segment`'s.

Durability. A batch is written with one `pwrite` and one `fdatasync`; its records are acknowledged together after that.
After a failed write or sync nothing of that file is trusted any more (the kernel may have dropped the pages and call
the next sync a success): the batch fails, the file is cut where it was last known good, and the next batch goes to a
new segment. A journal that is opened always begins a new segment, so nothing is ever appended after a torn write.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rempart.kernel.errors import BadInput, Conflict, Integrity, RempartError, Unavailable
from rempart.kernel.event import Event
from rempart.protocols.ocsf import MAX_BYTES, encode
from rempart.telemetry.spans import step

from .journal_files import OPEN, Spare, begin_writing, new_file
from .segment import (
    BATCH_BYTES,
    HEADER_BYTES,
    REPEAT,
    SegmentHeader,
    encode_batch,
    encode_record,
    next_batch,
    read_batches,
    segment_numbers,
    segment_path,
)

SEGMENT_BYTES = 8 << 20
_FIRST_SEGMENT_BYTES = 1 << 20  # after a start: quickly written out, and most processes never fill it
MAX_BACKLOG_BYTES = 512 << 20
MAX_PENDING_BYTES = 32 << 20
_SPARE = "next.segment"
_MANY = 256  # who wait for one sync
_Made = TypeVar("_Made")


class Journal:
    """Implements `kernel.event.Recorder`. For one event loop or one thread; not thread-safe.

    Opening raises Conflict `journal_locked` when another process writes it and Unavailable `journal_unavailable` when
    the disk doesn't work. Damage to records that were acknowledged is left in place, told in `damage`, and raised as an
    alarm by the sequencer that reads it; new events go to a new segment.
    """

    def __init__(
        self,
        directory: Path,
        source: str,
        *,
        max_backlog_bytes: int = MAX_BACKLOG_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        if not 0 < len(source.encode()) <= 64:
            raise BadInput("bad_source", f"{source!r} can't name a journal", "use 1 to 64 bytes")
        self.directory = directory
        self.source = source
        self._max_backlog = max_backlog_bytes
        self._segment_bytes = segment_bytes
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._synchronous = 0  # how many of the pending records somebody will `commit()` for
        self._lost: RempartError | None = None  # why records appended synchronously were lost in somebody else's batch
        self._waiters: list[asyncio.Future[None]] = []
        self._meanwhile: list[Callable[[], None]] = []
        self._scheduled = False
        self._closed = False
        self._fd = -1
        self._offset = 0
        self._capacity = 0
        self._spare: Spare | None = None
        self._older_bytes = 0
        self._sequence = 0
        self._seed = 0
        self._next_number = 1
        self._journal_id = os.urandom(16)
        self.damage = ""  # what was found damaged when opening
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            self._lock_fd = os.open(directory / "lock", OPEN | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._lock_fd)
                os.close(self._directory_fd)
                raise Conflict(
                    "journal_locked", f"another process writes the journal {directory}", "stop that process first"
                ) from None
            self._recover()
            self._begin_segment(min(segment_bytes, _FIRST_SEGMENT_BYTES))
        except OSError as error:
            raise _unavailable(error) from error

    # -- writing -------------------------------------------------------------------------------------------------

    def append(self, payload: bytes, repeat: bool = False) -> None:
        """Take `payload` into the next batch; it is durable, or refused, when `commit` returns.

        `repeat`: the same event may be in the log already; the sequencer keeps the first. Raises BadInput
        `event_too_large`, Unavailable `journal_unavailable` once closed.
        """
        self._take(payload, repeat)
        self._synchronous += 1

    def commit(self) -> None:
        """Write everything appended and return when it is on disk. Blocks the thread for one `fdatasync`.

        Raises Unavailable `journal_unavailable` or `journal_backlog_full`: then none of it was recorded.
        """
        lost, self._lost = self._lost, None
        self._flush()
        if lost is not None or (lost := self._lost) is not None:
            self._lost = None
            raise lost

    async def record(self, event: Event) -> None:
        await self.record_bytes(encode(event, self.source))

    async def record_bytes(self, payload: bytes, repeat: bool = False) -> None:
        """Return when `payload` is on disk; raises as `append` and `commit` do. Tasks share one `fdatasync`.

        The batch is written on the loop's own thread, a sync takes less time than handing it to one: as soon as a whole
        turn of the loop brought no further record. A cancelled caller's event may still be recorded.
        """
        loop = asyncio.get_running_loop()
        self._take(payload, repeat)
        waiter = loop.create_future()
        self._waiters.append(waiter)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._turn, loop, 0)
        with step("record"):
            await waiter

    async def record_while(self, event: Event, make: Callable[[], _Made]) -> _Made:
        """What `make` gives, once `event` is on disk; both raise. `make` runs while the disk writes: for what takes as
        long and is worth nothing without its record, as a signature. Should it raise, the event is recorded."""
        loop = asyncio.get_running_loop()
        made: asyncio.Future[_Made] = loop.create_future()
        self._meanwhile.append(lambda: _settle(made, make))
        try:
            await self.record_bytes(encode(event, self.source))
        except BaseException:
            if not made.cancel():
                made.exception()  # nobody else will look
            raise
        return await made

    def close(self) -> None:
        """Commit what is pending and give the journal free. Twice is once."""
        if self._closed:
            return
        try:
            self._flush()
        finally:
            self._closed = True
            self._end_segment()
            if (fd := self._take_spare()) >= 0:
                os.close(fd)
            with contextlib.suppress(OSError):
                (self.directory / _SPARE).unlink()
            os.close(self._directory_fd)
            os.close(self._lock_fd)

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def backlog_bytes(self) -> int:
        """Bytes in the journal's segments, integrated or not: segments are deleted as wholes."""
        return self._older_bytes + self._offset

    # -- inside --------------------------------------------------------------------------------------------------

    def _take(self, payload: bytes, repeat: bool) -> None:
        if not payload or len(payload) > MAX_BYTES:
            raise BadInput("event_too_large", f"an event of {len(payload)} bytes; 1 to {MAX_BYTES} can be recorded")
        if self._closed:
            raise Unavailable("journal_unavailable", "the journal is closed")
        if self._pending_bytes > MAX_PENDING_BYTES:
            raise Unavailable("journal_unavailable", "too many events wait to be written", "try again")
        record = encode_record(payload, REPEAT if repeat else 0)
        self._pending.append(record)
        self._pending_bytes += len(record)

    def _turn(self, loop: asyncio.AbstractEventLoop, seen: int) -> None:
        """Once a turn of the loop while somebody waits."""
        if seen < len(self._waiters) < _MANY:
            loop.call_soon(self._turn, loop, len(self._waiters))
        else:
            self._flush()

    def _flush(self) -> None:
        """Never raises: each waiter, and the next `commit`, learns what happened to its own records."""
        self._scheduled = False
        records, self._pending, self._pending_bytes = self._pending, [], 0
        waiters, self._waiters = self._waiters, []
        meanwhile, self._meanwhile = self._meanwhile, []
        synchronous, self._synchronous = self._synchronous, 0
        if not records:
            return
        error: RempartError | None = None
        try:
            self._write(records, meanwhile)
        except RempartError as refused:
            error = refused
        except OSError as failed:
            self._abandon_segment()
            error = _unavailable(failed)
        if error is not None and synchronous:
            self._lost = error
        for waiter in waiters:
            if not waiter.done():
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)

    def _write(self, records: list[bytes], meanwhile: list[Callable[[], None]]) -> None:
        size = BATCH_BYTES + sum(map(len, records))
        if self._older_bytes + self._offset + size > self._max_backlog:
            self._older_bytes = self._measure_older()
            if self._older_bytes + self._offset + size > self._max_backlog:
                raise Unavailable(
                    "journal_backlog_full",
                    f"{self._older_bytes + self._offset} bytes of events wait for the sequencer",
                    "see whether the sequencer runs: `rempart status`",
                )
        if self._fd < 0 or self._offset + size > self._capacity:
            self._end_segment(full=self._offset > self._capacity * 3 // 4)
            self._begin_segment(max(self._segment_bytes, size))
        batch = encode_batch(records, len(records), self._sequence, self._seed)
        self._pwrite(batch, self._offset)
        if meanwhile:
            begin_writing(self._fd, self._offset, len(batch))
            for make in meanwhile:
                make()
        os.fdatasync(self._fd)
        self._offset += len(batch)
        self._sequence += len(records)
        if self._offset > self._capacity // 2:
            self._prepare_spare()

    def _pwrite(self, data: bytes, offset: int) -> None:
        written = os.pwrite(self._fd, data, offset)
        while written < len(data):  # a short write says why at the next call
            written += os.pwrite(self._fd, data[written:], offset + written)

    def _begin_segment(self, size: int) -> None:
        """A new segment whose header and directory entry are durable."""
        header = SegmentHeader(self._next_number, self._sequence, self._journal_id, self.source)
        path = segment_path(self.directory, header.number)
        capacity = HEADER_BYTES + size
        fd = self._take_spare()
        if fd >= 0 and os.fstat(fd).st_size < capacity:
            os.close(fd)
            fd = -1
        spare = self.directory / _SPARE
        try:
            if fd < 0:
                fd = new_file(spare, capacity)
            os.pwrite(fd, header.encode(), 0)
            os.fdatasync(fd)
            os.rename(spare, path)
            os.fsync(self._directory_fd)
        except OSError:
            if fd >= 0:
                os.close(fd)
            for left in (spare, path):
                with contextlib.suppress(OSError):
                    left.unlink()
            raise
        self._next_number += 1
        self._seed = header.seed
        self._fd, self._offset, self._capacity = fd, HEADER_BYTES, os.fstat(fd).st_size
        self._older_bytes = self._measure_older()

    def _prepare_spare(self) -> None:
        """Make the next segment's file on a thread, once half of this one is full."""
        if self._spare is None:
            self._spare = Spare(self.directory / _SPARE, HEADER_BYTES + self._segment_bytes)

    def _take_spare(self) -> int:
        spare, self._spare = self._spare, None
        return -1 if spare is None else spare.take()

    def _end_segment(self, *, full: bool = False) -> None:
        """Cut off what is unused, unless it is `full`. Everything before that is durable already."""
        if self._fd >= 0:
            if not full:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._offset)
            os.close(self._fd)
            self._fd = -1
            self._offset = 0

    _abandon_segment = _end_segment  # after a failure: cut what may or may not have been written, never use it again

    def _measure_older(self) -> int:
        total = 0
        for number in segment_numbers(self.directory):
            if number != self._next_number - 1 or self._fd < 0:
                with contextlib.suppress(FileNotFoundError):
                    total += segment_path(self.directory, number).stat().st_size
        return total

    def _recover(self) -> None:
        """Cut a torn batch off the newest segment and learn where to continue."""
        numbers = segment_numbers(self.directory)
        if not numbers:
            return
        self._next_number = numbers[-1] + 1
        path = segment_path(self.directory, numbers[-1])
        data = path.read_bytes()
        try:
            header = SegmentHeader.decode(data, path)
        except Integrity as error:
            if data.strip(b"\0"):
                self.damage = error.reason
            else:  # died while creating it: nothing was ever written, the one before it is the newest
                path.unlink()
                self._recover()
            return
        self._journal_id = header.journal_id
        self._sequence = header.first_sequence
        batches, end = read_batches(data[HEADER_BYTES:], HEADER_BYTES, header.seed)
        if batches:
            self._sequence = batches[-1].sequence + len(batches[-1].records)
        if (after := next_batch(data, end, 0, header.seed)) is not None:
            # A batch is written only after the one before it was durable: what lies between was acknowledged.
            self.damage = f"{path} is damaged from byte {end} to {after.start}"
            while after is not None:
                self._sequence = after.sequence + len(after.records)
                after = next_batch(data, after.end, 0, header.seed)
            return
        fd = os.open(path, OPEN)
        try:
            os.ftruncate(fd, end)
            os.fsync(fd)
        finally:
            os.close(fd)


def _settle(made: asyncio.Future[_Made], make: Callable[[], _Made]) -> None:
    """Never raises."""
    if not made.done():
        try:
            made.set_result(make())
        except Exception as error:
            made.set_exception(error)


def _unavailable(error: OSError) -> Unavailable:
    return Unavailable(
        "journal_unavailable",
        f"the journal can't be written: {error.strerror or error}",
        "make room on the disk, or see what is wrong with it",
    )
