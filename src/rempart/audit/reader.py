"""The sequencer's side of a journal: read each record once, in order, and notice what is missing or damaged."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from rempart.kernel.errors import Integrity

from .segment import (
    BATCH_BYTES,
    FREE_SUFFIX,
    HEADER_BYTES,
    Batch,
    SegmentHeader,
    batch_end,
    next_batch,
    read_batches,
    segment_numbers,
    segment_path,
)

_CHUNK = 1 << 18
_KEEP_FREE = 2
_WORTH_KEEPING = 2 << 20


class Cursor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the next unread batch begins and the sequence number it must have."""

    segment: int
    offset: int
    sequence: int
    journal_id: str


START = Cursor(0, HEADER_BYTES, 0, "")


@dataclass
class Reading:
    """`records` are (flags, payload); `trouble` tells what an alarm must say; `damaged` are segments to keep."""

    records: list[tuple[int, bytes]] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)


class JournalReader:
    """Reads ahead of its cursor only in memory: give it the committed cursor when it is made. Not thread-safe."""

    def __init__(self, directory: Path, cursor: Cursor = START) -> None:
        self.directory = directory
        self.cursor = cursor
        self._fd = -1
        self._open_number = -1
        self._seed = 0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = self._open_number = -1

    def rewind(self, cursor: Cursor) -> None:
        """Go back to the committed cursor after what was read couldn't be integrated."""
        self.close()
        self.cursor = cursor

    def read(self, max_records: int) -> Reading:
        """What has become readable, about `max_records` at most. Raises OSError."""
        reading = Reading()
        while len(reading.records) < max_records:
            if not (self._open(reading) and self._read_batches(reading)) and not self._advance(reading):
                break
        return reading

    def backlog_bytes(self) -> int:
        """Bytes behind the cursor, of whole segments and of the one being read. Preallocated space counts."""
        total = 0
        with contextlib.suppress(FileNotFoundError):
            for number in segment_numbers(self.directory):
                if number > self.cursor.segment:
                    total += segment_path(self.directory, number).stat().st_size
        return total

    def delete_integrated(self, committed: Cursor) -> None:
        """Give back segments that lie wholly before `committed`; the newest always stays, it carries the numbering.

        A few whole ones are left for the writer to use again: overwriting is what a disk does fastest.
        """
        free = sum(name.endswith(FREE_SUFFIX) for name in os.listdir(self.directory))
        for number in segment_numbers(self.directory):
            path = segment_path(self.directory, number)
            if number < committed.segment:
                with contextlib.suppress(FileNotFoundError):
                    if free < _KEEP_FREE and path.stat().st_size >= _WORTH_KEEPING:
                        path.rename(path.with_suffix(FREE_SUFFIX))
                        free += 1
                    else:
                        path.unlink()

    def keep_damaged(self, number: int) -> None:
        """Set a damaged segment aside for people to look at."""
        path = segment_path(self.directory, number)
        with contextlib.suppress(FileNotFoundError):
            path.rename(path.with_suffix(".damaged"))

    # -- inside --------------------------------------------------------------------------------------------------

    def _open(self, reading: Reading) -> bool:
        if self._open_number == self.cursor.segment:
            return True
        try:
            fd = os.open(segment_path(self.directory, self.cursor.segment), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        raw = os.pread(fd, HEADER_BYTES, 0)
        try:
            header = SegmentHeader.decode(raw, segment_path(self.directory, self.cursor.segment))
        except Integrity as error:
            os.close(fd)
            if raw.strip(b"\0") and self._newer():
                reading.trouble.append(error.reason)
                reading.damaged.append(self.cursor.segment)
            return False
        self.close()
        if self.cursor.journal_id not in ("", header.journal_id.hex()):
            os.close(fd)
            self._begin_anew(header.journal_id, reading)
            return self._open(reading)
        self._fd, self._open_number, self._seed = fd, self.cursor.segment, header.seed
        self._check_header(header, reading)
        return True

    def _begin_anew(self, journal_id: bytes, reading: Reading) -> None:
        """Somebody put another journal in the place of the one that was read: read it from its first segment."""
        reading.trouble.append(f"the journal {self.directory.name} was replaced by another one")
        for number in segment_numbers(self.directory):
            path = segment_path(self.directory, number)
            with contextlib.suppress(FileNotFoundError, Integrity), path.open("rb") as file:
                header = SegmentHeader.decode(file.read(HEADER_BYTES), path)
                if header.journal_id == journal_id:
                    self.cursor = Cursor(number, HEADER_BYTES, header.first_sequence, journal_id.hex())
                    return

    def _check_header(self, header: SegmentHeader, reading: Reading) -> None:
        cursor = self.cursor
        journal_id = header.journal_id.hex()
        sequence = cursor.sequence
        if not cursor.journal_id and header.first_sequence:
            reading.trouble.append(f"the journal {self.directory.name} begins at record {header.first_sequence}")
            sequence = header.first_sequence
        elif cursor.offset == HEADER_BYTES:
            if header.first_sequence > sequence:
                missing = header.first_sequence - sequence
                reading.trouble.append(f"{missing} records of the journal {self.directory.name} are missing")
            # Smaller: the writer numbers anew what a power cut took from the file after it had been read here.
            sequence = header.first_sequence
        self.cursor = Cursor(cursor.segment, cursor.offset, sequence, journal_id)

    def _read_batches(self, reading: Reading) -> bool:
        head = os.pread(self._fd, BATCH_BYTES, self.cursor.offset)
        end = batch_end(head, self.cursor.offset, self.cursor.sequence)
        if end is None:
            return False
        data = os.pread(self._fd, max(_CHUNK, end - self.cursor.offset), self.cursor.offset)
        batches, _ = read_batches(data, self.cursor.offset, self._seed)
        for batch in batches:
            self._take(batch, reading)
        return bool(batches)

    def _take(self, batch: Batch, reading: Reading) -> None:
        cursor = self.cursor
        if batch.sequence != cursor.sequence:
            reading.trouble.append(
                f"the journal {self.directory.name} goes from record {cursor.sequence} to {batch.sequence}"
            )
        reading.records.extend(batch.records)
        self.cursor = Cursor(cursor.segment, batch.end, batch.sequence + len(batch.records), cursor.journal_id)

    def _newer(self) -> list[int]:
        try:
            return [number for number in segment_numbers(self.directory) if number > self.cursor.segment]
        except FileNotFoundError:
            return []

    def _advance(self, reading: Reading) -> bool:
        """Go past damage or to the next segment; False when there is nothing more to read for now."""
        newer = self._newer()
        if self._open_number == self.cursor.segment and self._skip_damage(reading, closed=bool(newer)):
            return True
        if not newer:
            return self._look_for_another()
        if self._open_number == self.cursor.segment and self._read_batches(reading):
            return True  # written between the last look and the listing
        cursor = self.cursor
        self.close()
        self.cursor = Cursor(newer[0], HEADER_BYTES, cursor.sequence, cursor.journal_id)
        return True

    def _look_for_another(self) -> bool:
        """True when the segment being read is gone and others are there: the newest is never deleted by us."""
        was_open = self._fd >= 0
        if was_open and os.fstat(self._fd).st_nlink:
            return False
        self.close()
        try:
            numbers = segment_numbers(self.directory)
        except FileNotFoundError:
            return False
        if self.cursor.segment in numbers:
            return was_open
        for number in numbers:
            path = segment_path(self.directory, number)
            with contextlib.suppress(FileNotFoundError, Integrity), path.open("rb") as file:
                journal_id = SegmentHeader.decode(file.read(HEADER_BYTES), path).journal_id.hex()
                if self.cursor.journal_id not in ("", journal_id):
                    self.cursor = Cursor(number, HEADER_BYTES, self.cursor.sequence, self.cursor.journal_id)
                    return True
        return False

    def _skip_damage(self, reading: Reading, *, closed: bool) -> bool:
        """True when a valid batch follows an invalid one: acknowledged records lie between them.

        In the segment being written it is looked for only where the expected batch begins and doesn't read; twice,
        since the writer may just be writing it. In a closed one always.
        """
        offset = self.cursor.offset
        if not closed and batch_end(os.pread(self._fd, BATCH_BYTES, offset), offset, self.cursor.sequence) is None:
            return False
        size = os.fstat(self._fd).st_size
        if offset >= size:
            return False
        after = None
        for _ in range(2):
            data = os.pread(self._fd, size - offset, offset)
            batches, _end = read_batches(data, offset, self._seed)
            if batches:
                return False
            after = next_batch(data, 0, offset, self._seed)
            if after is None:
                return False
        if after is None:
            return False
        path = segment_path(self.directory, self.cursor.segment)
        reading.trouble.append(
            f"{path.name} of the journal {self.directory.name} is damaged from byte {offset} to {after.start}"
        )
        reading.damaged.append(self.cursor.segment)
        missing = after.sequence - self.cursor.sequence
        reading.trouble.append(f"{missing} records of the journal {self.directory.name} are lost to it")
        self.cursor = Cursor(self.cursor.segment, after.start, after.sequence, self.cursor.journal_id)
        return True
