"""Deleting events whose time is over, so that the tree stays provable: their bytes go, their hashes stay.

Whole bundles of 256 are looked at. What must stay of one (of a class kept longer, or under a legal hold) is moved to
`kept/N`, then the bundle is deleted. In this order, each step durable before the next, so that a crash anywhere is
mended by doing it again: the bundles are exported, the deletion is recorded in the log, what stays is written, the
bundles go. Events that say what was deleted, erased or rotated are kept for ever: they explain the rest.

An event's time is what its process said. It counts as over only when the newest time in its bundle says so as well:
a process whose clock is wrong, or that lies, can't have its traces deleted early.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import BadInput, Integrity, NotFound
from rempart.kernel.event import EventType
from rempart.protocols.event_catalogue import CATALOGUE
from rempart.protocols.ocsf import Summary, decode_summary

from .log import MerkleLog
from .tiles import WIDTH, encode_kept

_FOR_EVER = frozenset(
    (EventType.EVENTS_PRUNED, EventType.LOG_KEY_ROTATED, EventType.PERSON_ERASED, EventType.HOLD_CHANGED)
)
_CLASS = {str(kind.type): str(kind.retention) for kind in CATALOGUE.values()}
_DAY_MS = 86_400_000
MAX_RUN = 256  # bundles of one export


class Hold(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A legal hold: events that have all the given values are not deleted. Without any: none is. `type` may name a
    group with a trailing dot (`money.`)."""

    id: str
    reason: str
    person: str | None = None
    workload: str | None = None
    service: str | None = None
    type: str | None = None

    def covers(self, event: Summary) -> bool:
        wanted = (self.person, self.workload, self.service)
        has = (event.person, event.workload, event.service)
        return self._of_type(event.type) and all(
            want is None or want == value for want, value in zip(wanted, has, strict=True)
        )

    def _of_type(self, type: str) -> bool:
        wanted = self.type
        return wanted is None or wanted == type or (wanted.endswith(".") and type.startswith(wanted))

    @property
    def can_cover(self) -> bool:
        """Whether it says what it holds, and an event may have that: one that never covers anything holds nothing."""
        given = [value for value in (self.person, self.workload, self.service, self.type) if value is not None]
        return bool(given) and all(given) and (self.type is None or any(self._of_type(kind) for kind in EventType))


class Holds:
    """In one small file, replaced durably."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.all = self._load()

    def get(self, id: str) -> Hold:
        """Raises NotFound."""
        for hold in self.all:
            if hold.id == id:
                return hold
        raise NotFound("no_such_hold", f"there is no hold {id[:80]!r}", "see `rempart audit holds`")

    def put(self, hold: Hold) -> None:
        self._save([*(one for one in self.all if one.id != hold.id), hold])

    def lift(self, id: str) -> None:
        self._save([one for one in self.all if one.id != id])

    def _save(self, holds: list[Hold]) -> None:
        body = msgspec.json.encode(holds)
        replace_file(self._path, body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n")
        self.all = holds

    def _load(self) -> list[Hold]:
        """Raises Integrity: a hold that is lost in silence lets evidence be deleted."""
        try:
            body, _, checksum = self._path.read_bytes().rstrip(b"\n").rpartition(b"\n")
        except FileNotFoundError:
            return []
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            remedy = "write it again as `rempart audit search --type system.hold_changed` says"
            raise Integrity("holds_damaged", f"{self._path} was changed", remedy)
        return msgspec.json.decode(body, type=list[Hold])


@dataclass(frozen=True, slots=True)
class Run:
    """Bundles that follow each other: `stays` is what is kept of each, by number of the bundle, at which place."""

    bundles: Sequence[int]
    stays: Mapping[int, Mapping[int, bytes]]
    deleted: int

    @property
    def first(self) -> int:
        return self.bundles[0] * WIDTH

    @property
    def end(self) -> int:
        return (self.bundles[-1] + 1) * WIDTH


class Retention:
    """`days` by class of event; what isn't named is kept for ever. Not thread-safe."""

    def __init__(self, log: MerkleLog, days: Mapping[str, int], holds: Holds, exports: Path) -> None:
        self._log, self._days, self._holds, self._exports = log, days, holds, exports

    def due(self, now: float) -> Iterator[Run]:
        """What is to be deleted, oldest first, as the holds are when each run is asked for. Reads every full bundle:
        give the loop a turn between runs."""
        if not self._days:
            raise BadInput("no_retention", "no class of events has a time", "set [audit.retention] in rempart.toml")
        run: list[tuple[int, Mapping[int, bytes], int]] = []
        for number in range(self._log.size // WIDTH):
            if len(run) == MAX_RUN:  # before the next one is looked at: a hold may come meanwhile
                yield _run(run)
                run = []
            found = self._look(number, now)
            if found is not None:
                run.append((number, *found))
            elif run:
                yield _run(run)
                run = []
        if run:
            yield _run(run)

    def export(self, run: Run) -> tuple[Path, str]:
        """The run's events as the log has them, as JSON lines, compressed: durable; (file, its SHA-256)."""
        lines = b"".join(
            leaf + b"\n" for number in run.bundles for leaf in self._log.bundle(number) if leaf is not None
        )
        data = gzip.compress(lines, 6, mtime=0)
        self._exports.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest = hashlib.sha256(data).hexdigest()
        path = self._exports / f"{run.first:012d}-{run.end:012d}.{digest[:8]}.jsonl.gz"
        replace_file(path, data)
        return path, digest

    def delete(self, run: Run, progress: Callable[[], None] = lambda: None) -> None:
        """After it was exported and the deletion recorded."""
        for number in run.bundles:
            self._log.prune(number, encode_kept(run.stays[number]))
            progress()

    def _look(self, number: int, now: float) -> tuple[Mapping[int, bytes], int] | None:
        """What stays of the bundle and how many go; None when none goes."""
        leaves = self._log.bundle(number)
        events = {at: decode_summary(leaf) for at, leaf in enumerate(leaves) if leaf is not None}
        if not events:
            return None
        newest = min(max(event.at for event in events.values()), int(now * 1000))
        stays = {
            at: leaf for at in events if (leaf := leaves[at]) is not None and not self._over(events[at], newest, now)
        }
        gone = len(events) - len(stays)
        return (stays, gone) if gone else None

    def _over(self, event: Summary, newest: int, now: float) -> bool:
        days = self._days.get(_CLASS.get(event.type, ""), 0)
        if not days or event.type in _FOR_EVER or max(event.at, newest) > now * 1000 - days * _DAY_MS:
            return False
        return not any(hold.covers(event) for hold in self._holds.all)


def _run(parts: Iterable[tuple[int, Mapping[int, bytes], int]]) -> Run:
    listed = list(parts)
    stays = {number: kept for number, kept, _ in listed}
    return Run([number for number, _, _ in listed], stays, sum(gone for _, _, gone in listed))
