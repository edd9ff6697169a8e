"""Whose tokens of before are refused: the least epoch that a subject's token may carry, as people tells it.

Kept in a file, so that a PDP that starts while people is down goes on with what was known. Bounded by the number of
accounts whose role, password or standing changed within the longest life of a token; older entries are dropped.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from rempart.kernel.clock import Clock
from rempart.kernel.durable_file import replace_file

HORIZON = 86400.0 + 600.0  # seconds: as people's, longer than any access token lives
GRACE = 300.0  # seconds without a word from people until those who administer others are refused
_SILENCE = 8.0  # seconds: four missed signs of life, then the connection is made anew
_PAUSES = (0.1, 0.2, 0.5, 1.0)
_LINE = 4 << 20  # bytes


class Told(msgspec.Struct, frozen=True):
    """One line of people's. `epochs`: subject, least epoch, when it changed (seconds since the epoch)."""

    run: str
    seq: int
    epochs: list[tuple[str, int, float]] = []


class Epochs:
    """`least` is read on the hot path: one look-up a decision."""

    def __init__(self, file: Path | None = None) -> None:
        self.least: dict[str, int] = {}
        self.stale = False
        self.run, self.seq = "", 0
        self._at: dict[str, float] = {}
        self._file = file
        self._saving = asyncio.Lock()

    def take(self, told: Told, now: float) -> None:
        """An epoch never goes back. What is older than any token is forgotten."""
        self.run, self.seq = told.run, told.seq
        for subject, epoch, at in told.epochs:
            if epoch > self.least.get(subject, 0):
                self.least[subject] = epoch
            self._at[subject] = max(at, self._at.get(subject, 0.0))
        if told.epochs:
            for subject in [subject for subject, at in self._at.items() if at < now - HORIZON]:
                del self._at[subject], self.least[subject]

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

    async def save(self) -> None:
        """Durable when it returns: the old file or the new one, whole."""
        async with self._saving:
            if self._file is not None:
                entries = [(subject, epoch, self._at[subject]) for subject, epoch in self.least.items()]
                await asyncio.to_thread(self._write, self._file, Told(self.run, self.seq, entries))

    @staticmethod
    def _write(path: Path, told: Told) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, msgspec.json.encode(told))


class Follower:
    """Keeps `epochs` up with people, over the unix socket at `path`."""

    def __init__(self, epochs: Epochs, path: str, clock: Clock) -> None:
        self._epochs, self._path, self._clock = epochs, path, clock
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
        failures = 0
        while True:
            try:
                async for told in self._lines():
                    failures, self._heard, self._epochs.stale = 0, self._clock.monotonic(), False
                    self._epochs.take(told, self._clock.now())
                    self._first.set()
                    if told.epochs:
                        await self._epochs.save()
            except (OSError, ValueError, msgspec.DecodeError, TimeoutError) as error:
                if failures == 0:
                    print(f"pdp: people tells no epochs ({type(error).__name__})", file=sys.stderr, flush=True)
            self._epochs.stale = self.silence > GRACE
            await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1

    async def _lines(self) -> AsyncIterator[Told]:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=_LINE)
        try:
            writer.write(msgspec.json.encode({"run": self._epochs.run, "seq": self._epochs.seq}) + b"\n")
            while line := await asyncio.wait_for(reader.readline(), _SILENCE):
                yield msgspec.json.decode(line, type=Told)
        finally:
            writer.close()
