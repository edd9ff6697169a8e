"""The file format of a journal: segments of batches of records.

```
segment  header[128] batch* rest*            journals/PROCESS/{number:016x}.journal
header   magic[8] version:u32 number:u64 first_sequence:u64 journal_id[16] source_length:u16 source[64] pad crc32:u32
batch    magic[4] body_length:u32 count:u32 sequence:u64 crc32:u32 body         crc32 of header and all the rest
body     (length:u32 flags:u8 payload)*
```
All integers little-endian. A batch is what one `fdatasync` made durable: it is valid as a whole or not at all, so a
torn write can only be the last batch. `sequence` numbers the records of a journal over all its segments: a gap shows
that records went missing. A batch's checksum begins with that of the segment's header, so what a reused file still
holds of its former life is never valid. The batch's magic can't occur in UTF-8, hence in no payload: it serves to
find the next batch after damage.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rempart.kernel.errors import Integrity

SUFFIX = ".journal"
FREE_SUFFIX = ".free"  # an integrated segment whose file may be used again
HEADER_BYTES = 128
MAGIC = b"RMPJRNL\x01"
BATCH_MAGIC = b"\xf5\xffRJ"
MAX_BATCH_BYTES = 64 << 20  # what a reader is willing to hold in memory
REPEAT = 1  # flag: the same event may have been recorded before

_HEADER = struct.Struct("<8sIQQ16sH64s14xI")
_BATCH = struct.Struct("<4sIIQI")
_RECORD = struct.Struct("<IB")
BATCH_BYTES = _BATCH.size
RECORD_BYTES = _RECORD.size
_VERSION = 1

assert _HEADER.size == HEADER_BYTES  # nosec B101 - a fact of the layout above, checked when imported


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    number: int
    first_sequence: int
    journal_id: bytes
    source: str

    def encode(self) -> bytes:
        source = self.source.encode()
        fields = (MAGIC, _VERSION, self.number, self.first_sequence, self.journal_id, len(source), source)
        unsigned = _HEADER.pack(*fields, 0)
        return _HEADER.pack(*fields, zlib.crc32(unsigned[:-4]))

    @property
    def seed(self) -> int:
        """What the checksums of this segment's batches begin with: the header's own.

        Not the checksum over the whole header: that is the same for all, since it would cover its own checksum.
        """
        return int.from_bytes(self.encode()[-4:], "little")

    @staticmethod
    def decode(raw: bytes, path: Path) -> SegmentHeader:
        """Raises Integrity `journal_damaged`."""
        if len(raw) < HEADER_BYTES:
            raise Integrity("journal_damaged", f"{path} ends within its header")
        magic, version, number, first, journal_id, length, source, crc = _HEADER.unpack(raw[:HEADER_BYTES])
        if magic != MAGIC or version != _VERSION or zlib.crc32(raw[: HEADER_BYTES - 4]) != crc or length > 64:
            raise Integrity("journal_damaged", f"{path} has no valid header")
        return SegmentHeader(number, first, journal_id, source[:length].decode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Batch:
    """`records` are (flags, payload); the batch occupies bytes `[start, end)` of its segment."""

    start: int
    end: int
    sequence: int
    records: list[tuple[int, bytes]]


def encode_record(payload: bytes, flags: int = 0) -> bytes:
    return _RECORD.pack(len(payload), flags) + payload


def encode_batch(records: Iterable[bytes], count: int, sequence: int, seed: int) -> bytes:
    """`records` as `encode_record` made them."""
    body = b"".join(records)
    head = _BATCH.pack(BATCH_MAGIC, len(body), count, sequence, 0)
    return _BATCH.pack(BATCH_MAGIC, len(body), count, sequence, zlib.crc32(body, zlib.crc32(head[:-4], seed))) + body


def decode_batch(data: bytes, position: int, start: int, seed: int) -> Batch | None:
    """The batch at `data[position:]`, which is byte `start` of its segment; None if there is no whole valid one."""
    if len(data) - position < BATCH_BYTES:
        return None
    magic, length, count, sequence, crc = _BATCH.unpack_from(data, position)
    begin = position + BATCH_BYTES
    if magic != BATCH_MAGIC or length > MAX_BATCH_BYTES or len(data) - begin < length:
        return None
    body = data[begin : begin + length]
    if zlib.crc32(body, zlib.crc32(data[position : begin - 4], seed)) != crc:
        return None
    records = []
    at = 0
    while at < length:
        if length - at < RECORD_BYTES:
            return None
        size, flags = _RECORD.unpack_from(body, at)
        at += RECORD_BYTES
        if size > length - at:
            return None
        records.append((flags, body[at : at + size]))
        at += size
    if len(records) != count:
        return None
    return Batch(start, start + BATCH_BYTES + length, sequence, records)


def batch_end(head: bytes, start: int, sequence: int) -> int | None:
    """Where the batch ends that begins with `head` at byte `start`; None if none begins here.

    One with a sequence before `sequence` is left over from the file's former life.
    """
    if len(head) < BATCH_BYTES:
        return None
    magic, length, _, found, _ = _BATCH.unpack(head[:BATCH_BYTES])
    if magic != BATCH_MAGIC or length > MAX_BATCH_BYTES or found < sequence:
        return None
    end: int = start + BATCH_BYTES + length
    return end


def read_batches(data: bytes, start: int, seed: int) -> tuple[list[Batch], int]:
    """All valid batches from `data`, which begins at byte `start` of the segment, and where the next would begin."""
    batches = []
    position = 0
    while (batch := decode_batch(data, position, start + position, seed)) is not None:
        batches.append(batch)
        position = batch.end - start
    return batches, start + position


def next_batch(data: bytes, position: int, start: int, seed: int) -> Batch | None:
    """The first valid batch after damage at `position`."""
    while (position := data.find(BATCH_MAGIC, position)) >= 0:
        if (batch := decode_batch(data, position, start + position, seed)) is not None:
            return batch
        position += 1
    return None


def segment_path(directory: Path, number: int) -> Path:
    return directory / f"{number:016x}{SUFFIX}"


def segment_numbers(directory: Path) -> list[int]:
    """Numbers of the segments in `directory`, oldest first; a file with any other name is not a segment."""
    numbers = []
    for name in os.listdir(directory):
        if name.endswith(SUFFIX) and len(name) == 16 + len(SUFFIX):
            try:
                numbers.append(int(name[:16], 16))
            except ValueError:
                continue
    return sorted(numbers)
