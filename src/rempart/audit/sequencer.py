"""The sequencer: every record of every journal goes into the Merkle log, exactly once.

A cycle reads what is new in all journals, integrates it with the journals' cursors in one atomic commit, and deletes
the segments that lie behind. Records are taken as bytes; only what searching needs is decoded. What can't be taken
(not an event, or one that claims another source) and what is missing or damaged becomes an alarm in the sequencer's own
journal, before the cursor goes past it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rempart.kernel.errors import BadInput, Integrity, RempartError
from rempart.kernel.event import Event, EventType, Severity
from rempart.protocols.ocsf import Summary, decode_summary, encode

from .journal import Journal
from .log import MerkleLog
from .model import Indexed
from .ports import SearchIndex
from .reader import START, Cursor, JournalReader, Reading
from .segment import REPEAT

MAX_RECORDS = 1024  # of one cycle, so that a long backlog doesn't keep the process from answering
PASSES_ON = "identity"
"""Its journal holds what agents of other hosts tell, too, under PROCESS@AGENT (docs/many-hosts.md)."""
_MAX_ALARMS = 8  # of one cycle and journal
_MAX_UNINDEXED = 32_768  # kept in memory for the index; what is beyond, it reads in the log
_SOON = 8192  # unindexed ones that may be waited for


@dataclass
class Counts:
    """Since the process started."""

    integrated: int = 0
    refused: int = 0
    repeated: int = 0
    alarms: int = 0
    index_failures: int = 0


class Sequencer:
    """One in each installation. Not thread-safe: `cycle` and `index_some` are called from one loop.

    `journal` is the sequencer's own, one of those in `journals_dir`. `open_index` makes the search index, again after
    it failed.
    """

    def __init__(
        self, log: MerkleLog, journals_dir: Path, journal: Journal, open_index: Callable[[], SearchIndex]
    ) -> None:
        self.log = log
        self.journal = journal
        self.counts = Counts()
        self.caught_up_at = time.monotonic()
        self.behind = False  # whether the last cycle left something in the journals
        self.deferred = False  # whether it left events that may be repeats, which the index can't tell yet
        self._journals_dir = journals_dir
        self._readers: dict[str, JournalReader] = {}
        self._open_index = open_index
        self._index: SearchIndex | None = None
        self._recent: list[Indexed] = []  # integrated and not yet indexed, contiguous up to the log's size
        self._recent_ids: dict[str, int] = {}

    # -- integrating -------------------------------------------------------------------------------------------------

    def cycle(self) -> int:
        """Integrate what the journals have, about MAX_RECORDS at most; returns how many records were read.

        Raises OSError or Unavailable when the disk refuses: nothing is lost, call again. Raises Integrity
        `log_damaged` when the log itself can't be read.
        """
        self.log.publish()
        self._find_journals()
        entries: list[bytes] = []
        summaries: list[Summary] = []
        read = 0
        behind = deferred = False
        moved: dict[str, Cursor] = {}
        damaged: list[tuple[JournalReader, int]] = []
        most = MAX_RECORDS * 4 if self.behind else MAX_RECORDS  # a long backlog costs fewer commits
        share = max(64, most // max(1, len(self._readers)))
        try:
            for name, reader in self._readers.items():
                before = reader.cursor
                reading = reader.read(share)
                if reader.cursor == before and not reading.trouble:
                    continue
                if any(flags & REPEAT for flags, _ in reading.records) and not self._index_soon_current():
                    reader.rewind(before)
                    deferred = True
                    continue
                moved[name] = reader.cursor
                read += len(reading.records)
                behind = behind or len(reading.records) >= share
                damaged.extend((reader, number) for number in reading.damaged)
                self._sort_out(name, reading, entries, summaries)
            if moved:
                self._integrate(entries, summaries, moved)
        except (OSError, RempartError):
            for name, reader in self._readers.items():
                reader.rewind(self.log.cursors.get(name, START))
            raise
        for reader, number in damaged:
            reader.keep_damaged(number)
        for name in moved:
            self._readers[name].delete_integrated(self.log.cursors[name])
        self.behind, self.deferred = behind, deferred
        if not behind and not deferred:
            self.caught_up_at = time.monotonic()
        return read

    def backlog(self) -> dict[str, int]:
        """Bytes of each journal in segments that aren't wholly integrated."""
        return {name: reader.backlog_bytes() for name, reader in self._readers.items()}

    @property
    def lag_seconds(self) -> float:
        """How long ago the journals were last read to their ends."""
        return time.monotonic() - self.caught_up_at

    def _find_journals(self) -> None:
        try:
            names = [path.name for path in self._journals_dir.iterdir() if path.is_dir() and not path.is_symlink()]
        except FileNotFoundError:
            return
        for name in names:
            if name not in self._readers:
                self._readers[name] = JournalReader(self._journals_dir / name, self.log.cursors.get(name, START))

    def _sort_out(self, source: str, reading: Reading, entries: list[bytes], summaries: list[Summary]) -> None:
        """Append what may be integrated; raise an alarm for the rest."""
        refused = 0
        refusal = ""
        for flags, payload in reading.records:
            try:
                summary = decode_summary(payload)
                if summary.source != source and not (source == PASSES_ON and "@" in summary.source):
                    raise BadInput("wrong_source", f"an event in the journal of {source} says it is {summary.source!r}")
            except BadInput as error:
                refused += 1
                refusal = refusal or f"{error.reason} (SHA-256 {hashlib.sha256(payload).hexdigest()})"
                continue
            if flags & REPEAT and self._is_repeat(summary, summaries):
                self.counts.repeated += 1
                continue
            entries.append(payload)
            summaries.append(summary)
        if refused:
            self.counts.refused += refused
            reading.trouble.append(f"{refused} records of the journal {source} were refused: {refusal}")
        for trouble in reading.trouble[:_MAX_ALARMS]:
            self._alarm(trouble, source)
        if reading.trouble:
            self.journal.commit()

    def _alarm(self, trouble: str, journal: str) -> None:
        self.counts.alarms += 1
        event = Event(
            type=EventType.ALARM,
            at=time.time(),
            success=False,
            severity=Severity.CRITICAL,
            reason=trouble,
            service=journal,
            details={"rule": "audit.journal_integrity"},
        )
        self.journal.append(encode(event, self.journal.source))

    def _integrate(self, entries: list[bytes], summaries: list[Summary], moved: dict[str, Cursor]) -> None:
        first = self.log.size
        self.log.integrate(entries, {**self.log.cursors, **moved})
        self.counts.integrated += len(entries)
        if any(summary.type == EventType.PERSON_ERASED for summary in summaries):
            try:
                self.rebuild_index()  # from the log, without their data
            except RempartError:
                self.drop_index()  # it is made anew when it opens: it was made with the keys of more persons
            return
        self._recent.extend(Indexed(first + offset, summary) for offset, summary in enumerate(summaries))
        self._recent_ids.update((summary.id, first + offset) for offset, summary in enumerate(summaries))
        if len(self._recent) > _MAX_UNINDEXED:  # the index is behind: it will read the log
            self._recent = []
            self._recent_ids = {}

    def _is_repeat(self, summary: Summary, in_this_cycle: list[Summary]) -> bool:
        """Whether the same service told the same event before. Brings the index up to date to be sure."""

        def same(other: Summary) -> bool:
            return other.id == summary.id and other.source == summary.source and other.service == summary.service

        if any(same(other) for other in in_this_cycle):
            return True
        while self.index_some():
            pass
        return any(same(decode_summary(self.log.entry(at))) for at in self._index_now().locate(summary.id))

    # -- searching ---------------------------------------------------------------------------------------------------

    def index_some(self) -> bool:
        """Index some of what was integrated, what the longest cycle takes in at most; True while there is more.

        Raises Unavailable `search_unavailable`.
        """
        index = self._index_now()
        start = index.size
        if start > self.log.size:
            raise Integrity("index_ahead", "the search index knows more events than the log has")
        if start == self.log.size:
            self._recent = []
            self._recent_ids = {}
            return False
        if self._recent and self._recent[0].index <= start:
            skip = start - self._recent[0].index
            events = self._recent[skip : skip + MAX_RECORDS * 4]
        else:
            events = self._from_log(start, min(start + MAX_RECORDS, self.log.size))
        end = events[-1].index + 1
        try:
            index.add(events, end)
        except RempartError:
            self.drop_index()
            raise
        if self._recent and end == self.log.size:
            self._recent = []
            self._recent_ids = {}
        return end < self.log.size

    def _from_log(self, start: int, end: int) -> list[Indexed]:
        events: list[Indexed] = []
        while start < end:
            entries = self.log.entries(start, end)
            events.extend(Indexed(start + offset, decode_summary(entry)) for offset, entry in enumerate(entries))
            start += len(entries)
        return events

    @property
    def unindexed(self) -> int:
        return self.log.size - self._index_now().size

    @property
    def index_lag(self) -> int | None:
        """How many events searches don't find yet; None while the index is down."""
        try:
            return self.unindexed
        except RempartError:
            return None

    def _index_soon_current(self) -> bool:
        """Whether the index is so close to the log's end that what is missing may be waited for."""
        lag = self.index_lag
        return lag is None or lag <= _SOON  # where it is down, asking it for repeats fails, and says why

    def rebuild_index(self) -> None:
        """Throw the index away; `index_some` makes it again. Raises Unavailable `search_unavailable`."""
        self._recent, self._recent_ids = [], {}
        self._index_now().clear()

    def drop_index(self) -> None:
        """Close a failed index; it is opened again, or made anew, when next needed."""
        self.counts.index_failures += 1
        self.renew_index()

    def renew_index(self) -> None:
        """Close it, so that it is opened again when next needed."""
        if self._index is not None:
            self._index.close()
            self._index = None

    def _index_now(self) -> SearchIndex:
        if self._index is None:
            self._index = self._open_index()
        return self._index

    def events_by_type(self) -> Mapping[str, int]:
        """Of what is indexed; empty while the index is down."""
        try:
            return self._index_now().counts()
        except RempartError:
            return {}

    @property
    def index(self) -> SearchIndex:
        return self._index_now()

    def locate(self, id: str) -> list[int]:
        """Indexes of the events that `id` names: as their own id or as their request's; those of Rempart first."""
        found = [self._recent_ids[id]] if id in self._recent_ids else []
        found += [at for at in self._index_now().locate(id) if at not in found]
        found += [e.index for e in self._recent if e.summary.request_id == id and e.index not in found]
        exact, related = [], []
        for at in found:
            summary = decode_summary(self.log.entry(at))
            if summary.id == id:
                exact.append((summary.source == self.journal.source, at))
            elif summary.request_id == id:
                related.append((summary.type != EventType.DECISION, at))
        return [at for _, at in sorted(exact)] + [at for _, at in sorted(related)]

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        if self._index is not None:
            self._index.close()
