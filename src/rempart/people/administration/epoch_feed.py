"""Tells the PDP whose older tokens are worth nothing any more, within a fraction of a second.

What is told is read from the accounts themselves, so a restart forgets nothing and several instances on one database
tell the same. Over a unix socket of its own: the PDP sends one line `{"run", "seq"}`, where it got to; from then on
come lines `{"run", "seq", "epochs": [[subject, least epoch, changed at], …]}`, an empty one every `HEARTBEAT` seconds
as a sign of life. Another `run` (this process began anew) means: everything from the start. Telling twice is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import msgspec

from rempart.kernel.clock import Clock
from rempart.kernel.errors import RempartError
from rempart.kernel.ids import new_id

HORIZON = 86400.0 + 600.0  # seconds: longer than any access token lives
HEARTBEAT = 2.0
_POLL = 0.25  # seconds between two looks at the accounts
_OVERLAP = 60.0  # seconds looked at again: a slow transaction, or another instance whose clock is behind
_BATCH = 5000  # entries in one line
_log = logging.getLogger(__name__)


class EpochStore(Protocol):
    async def changed_since(self, at: float) -> Sequence[tuple[str, int, float]]:
        """Accounts that changed at or after that time and had an earlier epoch: id, epoch, when they changed."""


class Position(msgspec.Struct, frozen=True):
    run: str = ""
    seq: int = 0


class EpochFeed:
    def __init__(self, store: EpochStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._run, self._seq = new_id("run"), 0
        self._known: OrderedDict[str, tuple[int, int, float]] = OrderedDict()  # subject → seq, epoch, changed at
        self._from = clock.now() - HORIZON
        self._looked = asyncio.Event()
        self._fresh = False

    async def refresh(self) -> None:
        """Look at what changed. Raises Unavailable `store_unavailable`."""
        now = self._clock.now()
        self._fresh = False
        for subject, epoch, at in await self._store.changed_since(self._from - _OVERLAP):
            known = self._known.get(subject)
            if known is None or known[1] < epoch:
                self._seq += 1
                self._known[subject] = (self._seq, epoch, at)
                self._known.move_to_end(subject)
        self._from, self._fresh = now, True
        while self._known and next(iter(self._known.values()))[2] < now - HORIZON:
            self._known.popitem(last=False)
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
                    told = news[-1][0] if news else told
                    line = {"run": self._run, "seq": told, "epochs": [entry[1:] for entry in news]}
                    writer.write(msgspec.json.encode(line) + b"\n")
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

    def _after(self, told: int) -> list[tuple[int, str, int, float]]:
        """The oldest entries that this follower hasn't been told."""
        newest_first = []
        for subject, (seq, epoch, at) in reversed(self._known.items()):
            if seq <= told:
                break
            newest_first.append((seq, subject, epoch, at))
        return newest_first[::-1][:_BATCH]
