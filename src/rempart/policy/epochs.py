"""Whose tokens of before are refused: the least epoch that a subject's token may carry, and the sessions and tokens
that were ended alone, as people tells it.

Kept in a file, so that a PDP that starts while people is down goes on with what was known. Bounded by the number of
accounts whose role, password or standing changed, and of sessions that ended (people tells 500 of one subject at most),
within the longest life of a token; older entries are dropped.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from rempart.kernel.clock import Clock
from rempart.kernel.durable_file import replace_file

from .claims import Claims

HORIZON = 86400.0 + 600.0  # seconds: as people's, longer than any access token lives
GRACE = 300.0  # seconds without a word from people until those who administer others are refused
_SILENCE = 8.0  # seconds: four missed signs of life, then the connection is made anew
_PAUSES = (0.1, 0.2, 0.5, 1.0)
_LINE = 4 << 20  # bytes
_EASE = 20  # times as long as a save took, the next one waits
_FORGET_EVERY = 60.0  # seconds


class Told(msgspec.Struct, frozen=True):
    """One line of people's; times in seconds since the epoch. `epochs`: subject, least epoch, when it changed. `ended`:
    subject, the `sid` or `jti` that is over, since when. `before`: subject or `client:ID`, until when its tokens
    are refused."""

    run: str
    seq: int
    epochs: list[tuple[str, int, float]] = []
    ended: list[tuple[str, str, float]] = []
    before: list[tuple[str, float]] = []


@dataclass(slots=True)
class Superseded:
    """What of one subject is refused: tokens of an epoch before `least` (which it got at `grown`), those of sessions or
    ids in `ended` (with the time of the end), and all that was made until `before`."""

    least: int = 0
    grown: float = 0.0
    ended: dict[str, float] = field(default_factory=dict)
    before: float = 0.0


class Epochs:
    """`told_of` is read on the hot path, by subject and by client: two look-ups a decision."""

    def __init__(self, file: Path | None = None) -> None:
        self.told_of: dict[str, Superseded] = {}
        self.stale = False
        self.run, self.seq = "", 0
        self._file = file
        self._saving = asyncio.Lock()
        self._unsaved = False
        self._save_from = self._forget_from = 0.0

    def why_not(self, claims: Claims) -> tuple[str, str]:
        """A code and words for the record; empty ones for a token that stands."""
        client = self.told_of.get(claims.client)
        if client is not None and client.before >= claims.issued:
            return "session_ended", "its client was deleted, or what proved it revoked"
        about = self.told_of.get(claims.subject)
        if about is None:
            return "", ""
        if claims.epoch < about.least:
            return "token_superseded", "superseded: the person's role, password or standing changed since"
        if claims.session in about.ended or claims.token in about.ended or 0 < about.before >= claims.issued:
            return "session_ended", "its session is over, or it was revoked"
        return "", ""

    def take(self, told: Told, now: float) -> None:
        """An epoch never goes back, an end is never undone. What is older than any token is forgotten."""
        self.run, self.seq = told.run, told.seq
        for subject, epoch, at in told.epochs:
            about = self._about(subject)
            about.least, about.grown = max(epoch, about.least), max(at, about.grown)
        for subject, id, at in told.ended:
            self._about(subject).ended[id] = at
        for subject, before in told.before:
            about = self._about(subject)
            about.before = max(about.before, before)
            about.ended = {id: at for id, at in about.ended.items() if at > about.before}
        self._unsaved |= bool(told.epochs or told.ended or told.before)
        if now >= self._forget_from:
            self._forget_from = now + _FORGET_EVERY
            self._forget(now - HORIZON)

    def _about(self, subject: str) -> Superseded:
        return self.told_of.setdefault(subject, Superseded())

    def _forget(self, until: float) -> None:
        for subject, about in list(self.told_of.items()):
            about.ended = {id: at for id, at in about.ended.items() if at >= until}
            if about.grown < until and about.before < until and not about.ended:
                del self.told_of[subject]

    def load(self, now: float) -> None:
        """What was kept; a file that can't be read counts as none, people tells everything again."""
        try:
            told = msgspec.json.decode(self._file.read_bytes(), type=Told) if self._file else Told("", 0)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            print(f"pdp: the kept epochs can't be read ({type(error).__name__})", file=sys.stderr, flush=True)
            return
        self.take(told, now)

    async def save_at_ease(self) -> None:
        """What is new, unless the last time took so long that it must wait: to be called every few seconds. A full disk
        is tried again and stops nobody from listening to people."""
        if self._unsaved and time.monotonic() >= self._save_from:
            began = time.monotonic()
            try:
                await self.save()
            except OSError as error:
                self._unsaved = True
                print(f"pdp: the epochs can't be kept ({type(error).__name__})", file=sys.stderr, flush=True)
            self._save_from = began + (time.monotonic() - began) * _EASE

    async def save(self) -> None:
        """Durable when it returns: the old file or the new one, whole."""
        async with self._saving:
            self._unsaved = False
            if self._file is not None:
                about = self.told_of.items()
                epochs = [(subject, one.least, one.grown) for subject, one in about if one.least]
                ended = [(subject, id, at) for subject, one in about for id, at in one.ended.items()]
                before = [(subject, one.before) for subject, one in about if one.before]
                await asyncio.to_thread(self._write, self._file, Told(self.run, self.seq, epochs, ended, before))

    @staticmethod
    def _write(path: Path, told: Told) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, msgspec.json.encode(told))


class Follower:
    """Keeps `epochs` up with people, over the unix sockets at `paths`, one of each instance. All tell the same, so one
    that is heard is enough; each is followed, so that none must be missed first."""

    def __init__(self, epochs: Epochs, paths: Sequence[str], clock: Clock) -> None:
        self._epochs, self._paths, self._clock = epochs, tuple(paths), clock
        self._heard = clock.monotonic()
        self._first = asyncio.Event()

    @property
    def silence(self) -> float:
        """Seconds since people last said something."""
        return self._clock.monotonic() - self._heard

    async def caught_up(self, seconds: float) -> bool:
        """Whether people told everything within that time."""
        try:
            await asyncio.wait_for(self._first.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for path in self._paths:
                group.create_task(self._follow(path))

    async def _follow(self, path: str) -> None:
        failures = 0
        position = Told(self._epochs.run, self._epochs.seq)
        while True:
            try:
                async for told in _lines(path, position):
                    failures, self._heard, self._epochs.stale, position = 0, self._clock.monotonic(), False, told
                    self._epochs.take(told, self._clock.now())
                    self._first.set()
                    await self._epochs.save_at_ease()
            except (OSError, ValueError, msgspec.DecodeError, TimeoutError) as error:
                if failures == 0:
                    print(f"pdp: people tells no epochs ({type(error).__name__})", file=sys.stderr, flush=True)
            self._epochs.stale = self.silence > GRACE
            await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1


async def _lines(path: str, position: Told) -> AsyncIterator[Told]:
    """What is told after `position`, everything where it is of another run."""
    reader, writer = await asyncio.open_unix_connection(path, limit=_LINE)
    try:
        writer.write(msgspec.json.encode({"run": position.run, "seq": position.seq}) + b"\n")
        while line := await asyncio.wait_for(reader.readline(), _SILENCE):
            yield msgspec.json.decode(line, type=Told)
    finally:
        writer.close()
