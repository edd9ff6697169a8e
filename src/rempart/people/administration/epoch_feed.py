"""Tells the PDP whose older tokens are worth nothing any more, which sessions are over and which clients are gone,
within a fraction of a second.

What is told is read from the store, so a restart forgets nothing and several instances on one database tell the same.
Over a unix socket of its own: the PDP sends one line `{"run", "seq"}`, where it got to; from then on come lines
`{"run", "seq", "epochs": [[subject, least epoch, changed at], …], "ended": [[subject, id, ended at], …],
"before": [[subject, time], …]}`, an empty one every `HEARTBEAT` seconds as a sign of life. An id in `ended` is the
`sid` of a session or the `jti` of one token. Another `run` (this process began anew) means: everything from the start.
Telling twice is harmless.

Of one subject `MOST_ENDED` ids are told; from then on the older ones become one time, `before`, and tokens of that
subject which were made until then are refused, whosever: who ends that many must refresh more often. Of a deleted
client there is `before` alone, with `client:ID` as subject: a later one of the same id is another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from rempart.kernel.clock import Clock
from rempart.kernel.errors import RempartError
from rempart.kernel.ids import new_id

HORIZON = 86400.0 + 600.0  # seconds: longer than any access token lives
HEARTBEAT = 2.0
MOST_ENDED = 500  # ids of one subject that are told apart
SLACK = 5.0  # seconds that a token may seem younger than the end of its session: clocks of two instances
_POLL = 0.25  # seconds between two looks at the store
_OVERLAP = 60.0  # seconds looked at again: a slow transaction, or another instance whose clock is behind
_BATCH = 5000  # entries in one line
_log = logging.getLogger(__name__)


class EpochStore(Protocol):
    async def changed_since(self, at: float) -> Sequence[tuple[str, int, float]]:
        """Accounts that changed at or after that time and had an earlier epoch: id, epoch, when they changed."""

    async def ended_since(self, at: float) -> Sequence[tuple[str, str, float]]:
        """What ended at or after that time, oldest first: account, id of the session or token, when it ended."""

    async def deleted_since(self, at: float) -> Sequence[tuple[str, float]]:
        """Clients that were deleted at or after that time, oldest first: id, when."""


class Position(msgspec.Struct, frozen=True):
    run: str = ""
    seq: int = 0


@dataclass(slots=True)
class _News:
    """What is to be told of one thing: `entry` goes into the member `kind` of a line."""

    seq: int
    kind: str
    entry: tuple[Any, ...]
    at: float


@dataclass(slots=True)
class _Ended:
    """Of one subject: ids in the order that they are forgotten, and the time in place of older ones."""

    ids: deque[str] = field(default_factory=deque)
    before: float = 0.0


class EpochFeed:
    def __init__(self, store: EpochStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._run, self._seq = new_id("run"), 0
        self._known: OrderedDict[tuple[str, str, str], _News] = OrderedDict()  # by kind, subject, id
        self._ended: dict[str, _Ended] = {}
        self._from = clock.now() - HORIZON
        self._looked = asyncio.Event()
        self._fresh = False

    async def refresh(self) -> None:
        """Look at what changed. Raises Unavailable `store_unavailable`."""
        now = self._clock.now()
        self._fresh = False
        since = self._from - _OVERLAP
        for subject, epoch, at in await self._store.changed_since(since):
            known = self._known.get(("epochs", subject, ""))
            if known is None or known.entry[1] < epoch:
                self._add("epochs", subject, "", (subject, epoch, at), at)
        for subject, id, at in await self._store.ended_since(since):
            if ("ended", subject, id) not in self._known and at + SLACK > self._before(subject):
                self._end(subject, id, at)
        for client_id, at in await self._store.deleted_since(since):
            subject = f"client:{client_id}"
            if at + SLACK > self._before(subject):
                self._cut(subject, self._ended.setdefault(subject, _Ended()), at + SLACK)
        self._from, self._fresh = now, True
        while self._known and (oldest := next(iter(self._known.values()))).at < now - HORIZON:
            self._forget(oldest)
        self._looked.set()
        self._looked = asyncio.Event()

    async def watch(self) -> None:
        """Until cancelled. While the store is gone nothing is told, not even a sign of life."""
        while True:
            try:
                await self.refresh()
            except RempartError as error:
                _log.error("epochs: %s", error.code)
            await asyncio.sleep(_POLL)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One follower, until it hangs up."""
        try:
            position = msgspec.json.decode(await reader.readline(), type=Position)
            told = position.seq if position.run == self._run else 0
            beat = 0.0
            await self.refresh()  # its first line says how things are now: then it may answer
            while not writer.is_closing():
                news = self._after(told)
                if self._fresh and (news or self._clock.monotonic() - beat >= HEARTBEAT):
                    told = news[-1].seq if news else told
                    writer.write(msgspec.json.encode(self._line(told, news)) + b"\n")
                    await writer.drain()
                    beat = self._clock.monotonic()
                if len(news) < _BATCH:
                    await self._looked.wait()
        except (OSError, ValueError, msgspec.DecodeError, RempartError):
            pass  # the follower comes again
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _line(self, told: int, news: Sequence[_News]) -> dict[str, Any]:
        line: dict[str, Any] = {"run": self._run, "seq": told, "epochs": [], "ended": [], "before": []}
        for one in news:
            line[one.kind].append(one.entry)
        return line

    def _before(self, subject: str) -> float:
        return self._ended[subject].before if subject in self._ended else 0.0

    def _add(self, kind: str, subject: str, id: str, entry: tuple[Any, ...], at: float) -> None:
        self._seq += 1
        self._known[kind, subject, id] = _News(self._seq, kind, entry, at)
        self._known.move_to_end((kind, subject, id))

    def _end(self, subject: str, id: str, at: float) -> None:
        ended = self._ended.setdefault(subject, _Ended())
        ended.ids.append(id)
        self._add("ended", subject, id, (subject, id, at), at)
        if len(ended.ids) > MOST_ENDED:
            folded = self._known.pop(("ended", subject, ended.ids.popleft()))
            self._cut(subject, ended, folded.at + SLACK)

    def _cut(self, subject: str, ended: _Ended, until: float) -> None:
        ended.before = max(ended.before, until)
        self._add("before", subject, "", (subject, ended.before), ended.before)

    def _forget(self, oldest: _News) -> None:
        kind, subject = oldest.kind, oldest.entry[0]
        del self._known[kind, subject, oldest.entry[1] if kind == "ended" else ""]
        ended = self._ended.get(subject)
        if ended is None or kind == "epochs":
            return
        if kind == "ended":
            ended.ids.remove(oldest.entry[1])
        else:
            ended.before = 0.0
        if not ended.ids and not ended.before:
            del self._ended[subject]

    def _after(self, told: int) -> list[_News]:
        """The oldest entries that this follower hasn't been told."""
        newest_first = []
        for news in reversed(self._known.values()):
            if news.seq <= told:
                break
            newest_first.append(news)
        return newest_first[::-1][:_BATCH]
