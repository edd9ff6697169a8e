"""One trust domain, several servers: each has roots and JWT keys of its own, and everybody trusts those of all.

Each server keeps one row: what it publishes, sealed, so that who owns the database can't add a key; a beat, and the
bundle sequence that it has told its workloads. So a server knows when all others tell what it wants to sign with. A
server counts as dead when its beat stands still; what it published stays until nothing that it signed can be valid.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from rempart.crypto import aead
from rempart.crypto.x509 import Certificate, pem_to_ders
from rempart.kernel.clock import Clock
from rempart.kernel.errors import Conflict, Integrity, RempartError, Unavailable
from rempart.kernel.event import Event, EventType, Recorder, Severity
from rempart.kernel.ids import new_id

from .model import Adopted, Authorities, PublishedKey, ServerRow, ServerRows
from .ports import ServerStore

PERIOD = 0.5
BEAT = 2.0
DEAD_AFTER = 10.0
STALE = 60.0
"""A row that old at the first look is taken for dead at once: it need not be watched for `DEAD_AFTER` first."""
MARGIN = 60.0
_ADOPTED = "adopted:"
"""Begins the ids of rows that stand for no server of ours."""
_CONTEXT = b"rempart/workloads/server/v1/"


class _Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`roots`: PEM. `vouches_for`: seconds that what they signed may stay valid. `number` counts a server's changes."""

    roots: list[str]
    keys: list[PublishedKey]
    vouches_for: float
    number: int


@dataclass(slots=True)
class _Seen:
    """What is known of another server; `changed` is our monotonic clock at its last beat."""

    row: ServerRow
    published: _Published
    changed: float
    dead: bool


class SharedBundle:
    """A `BundleStore`. `id` is this server's for ever, `vouches_for` how long anything below its roots may be valid."""

    lead = 3 * PERIOD + 1.0

    def __init__(
        self,
        store: ServerStore,
        seal_key: bytes,
        server_id: str,
        *,
        vouches_for: float,
        recorder: Recorder,
        clock: Clock,
        announce: Callable[[], None],
        period: float = PERIOD,
        dead_after: float = DEAD_AFTER,
    ) -> None:
        self._store, self._key, self._vouches_for = store, seal_key, vouches_for
        self._recorder, self._clock, self._announce = recorder, clock, announce
        self._period, self._dead_after = period, dead_after
        self._row = ServerRow(id=server_id, incarnation=new_id("run"), beat=1, seen=0, at=clock.now(), sealed=b"")
        self._ours = _Published([], [], vouches_for, 0)
        self._told: tuple[str, ...] = ()
        self._changed_at = 0
        self._beaten_at = float("-inf")
        self._others: dict[str, _Seen] = {}
        self._failing = False
        self._changing = asyncio.Lock()
        self.sequence = 0
        self.others = Authorities()

    @property
    def keys(self) -> tuple[PublishedKey, ...]:
        return tuple(self._ours.keys)

    def told(self) -> tuple[str, ...]:
        return self._told

    async def open(self) -> None:
        """Take over what this server published before, and learn of the others. Raises Unavailable, and Integrity
        `server_row_broken` when our own row is not what we wrote."""
        rows = await self._store.read()
        mine = next((row for row in rows.rows if row.id == self._row.id), None)
        if mine is not None:
            self._ours = self._open(mine)
            self._row = replace(self._row, sealed=mine.sealed, seen=mine.seen)
            self._told = _fingerprints(self._ours)
        self._take(rows)

    async def save(self, *, roots: Sequence[Certificate], keys: Sequence[PublishedKey]) -> None:
        async with self._changing:
            pems = [root.pem().decode() for root in roots]
            ours = _Published(pems, list(keys), self._vouches_for, self._ours.number + 1)
            sealed = aead.seal(self._key, msgspec.json.encode(ours), self._context(self._row.id))
            row = replace(self._row, sealed=sealed, at=self._clock.now())
            rows = await self._store.publish(row, remove=(), above=self.sequence)
            self._row, self._ours = row, ours
            self._changed_at = rows.sequence
            self._take(rows)

    def adopted(self) -> Mapping[str, Adopted]:
        now, found = self._clock.now(), {}
        for id_, seen in self._others.items():
            until = seen.row.at + seen.published.vouches_for
            if id_.startswith(_ADOPTED) and until > now:
                keys = [key.jwk for key in seen.published.keys]
                found[id_.removeprefix(_ADOPTED)] = Adopted(list(seen.published.roots), keys, until)
        return found

    async def adopt(self, name: str, what: Adopted) -> None:
        async with self._changing:
            known, now = self._others.get(_ADOPTED + name), self._clock.now()
            keys = [PublishedKey(key, what.until) for key in what.keys]
            number = known.published.number + 1 if known else 1
            published = _Published(list(what.roots), keys, what.until - now, number)
            sealed = aead.seal(self._key, msgspec.json.encode(published), self._context(_ADOPTED + name))
            row = ServerRow(id=_ADOPTED + name, incarnation="", beat=0, seen=0, at=now, sealed=sealed)
            self._take(await self._store.publish(row, remove=(), above=self.sequence))

    async def disown(self, name: str) -> bool:
        async with self._changing:
            known = self._others.get(_ADOPTED + name)
            if known is None:
                return False
            row = self._beating(self._row.seen)
            self._take(await self._store.publish(row, remove=[known.row], above=self.sequence))
            self._row = row
            return True

    async def told_to_all(self) -> None:
        """Wait until every server that lives tells its workloads what we publish; one that is silent counts as dead
        before long. Raises as `look`."""
        while True:
            await self.look()
            if self._told == _fingerprints(self._ours) and self._settled():
                return
            await asyncio.sleep(self._period / 5)

    async def look(self) -> None:
        """Learn what the others publish, and say what we told. Raises Unavailable, Conflict `twin_server`."""
        async with self._changing:
            rows = await self._store.read()
            before, known = (self.sequence, self.others), self.sequence
            self._take(rows)
            mine = next((row for row in rows.rows if row.id == self._row.id), None)
            gone = [seen.row for seen in self._others.values() if self._is_over(seen)]
            if (mine is None and self._ours.number) or gone or rows.sequence < known:
                # we were forgotten, or others are over, or the database is one of long ago
                row = self._beating(max(known, rows.sequence))
                self._take(await self._store.publish(row, remove=gone, above=row.seen))
                self._row = row
            if (self.sequence, self.others) != before:
                self._announce()
            await self._beat(mine)
            if self._settled():
                self._told = _fingerprints(self._ours)

    async def keep_following(self) -> None:
        """For ever. That the store is away is told once, and once that it is back; a twin ends this."""
        while True:
            try:
                await self.look()
                if self._failing:
                    await self._tell("the database of the servers answers again", Severity.INFO)
                self._failing = False
            except Conflict:
                raise
            except RempartError as error:
                if not self._failing:
                    await self._tell(f"the database of the servers can't be used: {error.reason}", Severity.HIGH)
                self._failing = True
            await asyncio.sleep(self._period * random.uniform(0.8, 1.2))  # nosec B311 - jitter, no secret

    async def leave(self) -> None:
        """Say that we end in good order: nobody waits for us. What fails doesn't matter."""
        with contextlib.suppress(RempartError):
            await self._store.beat(replace(self._row, beat=0))

    def describe(self) -> list[dict[str, object]]:
        """For the admin API: `{id, this, alive, roots, keys, seen}` of every server."""
        rows = [(self._row, self._ours, True), *((s.row, s.published, not s.dead) for s in self._others.values())]
        return [
            {
                "id": row.id,
                "this": row.id == self._row.id,
                "alive": alive,
                "seen": row.seen,
                "roots": list(_fingerprints(published)),
                "keys": [key.jwk["kid"] for key in published.keys],
            }
            for row, published, alive in sorted(rows, key=lambda one: one[0].id)
        ]

    @property
    def failing(self) -> bool:
        """Is the store away?"""
        return self._failing

    async def _beat(self, mine: ServerRow | None) -> None:
        now = self._clock.monotonic()
        if self._row.seen == self.sequence and now - self._beaten_at < BEAT:
            return
        if mine is not None and mine.incarnation != self._row.incarnation and self._beaten_at > float("-inf"):
            raise Conflict(
                "twin_server",
                "another server runs with a copy of this one's state directory",
                "stop one of the two: two servers need two state directories",
            )
        row = self._beating(self.sequence)
        if self._ours.number and await self._store.beat(row):
            self._row, self._beaten_at = row, now

    def _beating(self, seen: int) -> ServerRow:
        return replace(self._row, beat=self._row.beat + 1, seen=seen, at=self._clock.now())

    def _settled(self) -> bool:
        """Do all that live tell what we published last?"""
        return all(seen.dead or seen.row.seen >= self._changed_at for seen in self._others.values())

    def _is_over(self, seen: _Seen) -> bool:
        """Can nothing be valid any more that it signed?"""
        now = self._clock.now()
        ends = [seen.row.at + seen.published.vouches_for, *(key.until for key in seen.published.keys)]
        return seen.dead and now > max(ends) + MARGIN

    def _take(self, rows: ServerRows) -> None:
        mono, now = self._clock.monotonic(), self._clock.now()
        changed = False
        for row in rows.rows:
            if row.id == self._row.id:
                continue
            known = self._others.get(row.id)
            if known is None:
                stale = abs(now - row.at) > STALE
                self._others[row.id] = _Seen(row, self._open(row), mono, stale or row.beat == 0)
                changed = True
                continue
            if row.sealed != known.row.sealed:
                known.published = self._newer(known.published, row)
                changed = True
            if (row.beat, row.incarnation) != (known.row.beat, known.row.incarnation):
                known.changed, known.dead = mono, row.beat == 0
            elif mono - known.changed > self._dead_after:
                known.dead = True
            known.row = row
        for id_ in set(self._others) - {row.id for row in rows.rows}:
            del self._others[id_]
            changed = True
        self.sequence = rows.sequence
        if changed:
            self._merge()

    def _newer(self, known: _Published, row: ServerRow) -> _Published:
        published = self._open(row)
        if published.number < known.number:
            raise Integrity(
                "server_row_broken",
                f"the database shows an older state of the server {row.id[:80]}",
                "find out who brought it back: what was revoked since would be trusted again",
            )
        return published

    def _merge(self) -> None:
        order = [self._others[id_].published for id_ in sorted(self._others)]
        roots = tuple(Certificate.parse(der) for one in order for pem in one.roots for der in pem_to_ders(pem))
        kids = [key.jwk["kid"] for id_, seen in self._others.items() if id_.startswith(_ADOPTED) for key in _keys(seen)]
        self.others = Authorities(roots, tuple(key.jwk for one in order for key in one.keys), frozenset(kids))

    def _context(self, id_: str) -> bytes:
        return _CONTEXT + id_.encode()

    def _open(self, row: ServerRow) -> _Published:
        try:
            return msgspec.json.decode(aead.unseal(self._key, row.sealed, self._context(row.id)), type=_Published)
        except (Integrity, msgspec.DecodeError):
            raise Integrity(
                "server_row_broken",
                f"the row of the server {row.id[:80]!r} is not what a server of this trust domain wrote",
                "see that every server has the same shared_key; else find out who changed the database",
            ) from None

    async def _tell(self, reason: str, severity: Severity) -> None:
        event = Event(
            type=EventType.ALARM,
            at=self._clock.now(),
            success=severity is Severity.INFO,
            severity=severity,
            reason=reason,
            service="identity",
        )
        with contextlib.suppress(Unavailable):  # the recorder itself is what fails; the supervisor watches that
            await self._recorder.record(event)


def _keys(seen: _Seen) -> Sequence[PublishedKey]:
    return seen.published.keys


def _fingerprints(published: _Published) -> tuple[str, ...]:
    return tuple(Certificate.parse(der).fingerprint for pem in published.roots for der in pem_to_ders(pem))
