"""A journal, its writer killed at any byte and its reader at any time, against a list: what was acknowledged is read
once and in order, and nothing else."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from rempart.audit.journal import Journal
from rempart.audit.reader import START, JournalReader
from rempart.audit.segment import (
    HEADER_BYTES,
    SegmentHeader,
    encode_batch,
    encode_record,
    read_batches,
    segment_numbers,
    segment_path,
)

SEGMENT = 2048
PAYLOADS = st.lists(st.binary(min_size=1, max_size=700), min_size=1, max_size=6)


class Days(RuleBasedStateMachine):
    """`acknowledged` is the list; `read` what the reader has of it, `integrated` how much of that it committed."""

    def __init__(self) -> None:
        super().__init__()
        self._root = Path(tempfile.mkdtemp(prefix="jm"))
        self._lives = 0
        self.directory = self._root / "0"
        self.journal = self._opened()
        self.acknowledged: list[bytes] = []
        self.read: list[bytes] = []
        self.integrated, self.committed = 0, START
        self.reader = JournalReader(self.directory)

    def teardown(self) -> None:
        try:
            while self._take(1000):
                pass
            assert self.read == self.acknowledged
        finally:
            self.reader.close()
            self.journal.close()
            shutil.rmtree(self._root)

    @rule(payloads=PAYLOADS)
    def write(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            self.journal.append(payload)
        self.journal.commit()
        self.acknowledged += payloads

    @rule()
    def restart(self) -> None:
        self.journal.close()
        self.journal = self._opened()

    @rule(payloads=PAYLOADS, written=st.floats(0, 1, exclude_max=True), read_before=st.booleans())
    def kill(self, payloads: list[bytes], written: float, read_before: bool) -> None:
        """In the middle of a batch, of which a part reached the disk: what the directory was like is all there is."""
        self._lives += 1
        after = self._root / str(self._lives)
        shutil.copytree(self.directory, after)
        self.journal.close()
        self.reader.close()
        self.directory = after
        self._tear(payloads, written)
        self.reader = JournalReader(after, self.committed)
        del self.read[self.integrated :]
        if read_before:
            self._take(100)
        self.journal = self._opened()

    @rule(most=st.integers(1, 20))
    def look(self, most: int) -> None:
        self._take(most)

    @rule()
    def integrate(self) -> None:
        self.committed, self.integrated = self.reader.cursor, len(self.read)
        self.reader.delete_integrated(self.committed)

    @rule()
    def forget(self) -> None:
        """The reader dies, or what it read could not be integrated."""
        self.reader.rewind(self.committed)
        del self.read[self.integrated :]

    @invariant()
    def nothing_else(self) -> None:
        assert self.read == self.acknowledged[: len(self.read)]

    def _opened(self) -> Journal:
        journal = Journal(self.directory, "pdp", segment_bytes=SEGMENT)
        assert journal.damage == ""
        return journal

    def _take(self, most: int) -> int:
        reading = self.reader.read(most)
        assert reading.trouble == []
        self.read += [payload for _, payload in reading.records]
        return len(reading.records)

    def _tear(self, payloads: list[bytes], written: float) -> None:
        path = segment_path(self.directory, segment_numbers(self.directory)[-1])
        raw = path.read_bytes()
        header = SegmentHeader.decode(raw, path)
        batches, end = read_batches(raw[HEADER_BYTES:], HEADER_BYTES, header.seed)
        sequence = batches[-1].sequence + len(batches[-1].records) if batches else header.first_sequence
        batch = encode_batch([encode_record(one) for one in payloads], len(payloads), sequence, header.seed)
        torn = batch[: int(len(batch) * written)]
        after = raw[:end] + torn + raw[end + len(torn) :]
        path.write_bytes(after)
        if after[end : end + len(batch)] == batch:  # what is missing were zeros, and zeros are there
            self.acknowledged += payloads


def test_what_was_acknowledged_is_read_once_and_in_order() -> None:
    run_state_machine_as_test(Days, settings=settings(max_examples=60, stateful_step_count=25, deadline=None))
