"""Whose risk is raised, since when and until when; told to the PDP over a unix socket of its own.

The PDP connects and reads lines, each all there is: `{"risks": [[subject, level, since, until], …]}`, again whenever it
changed and every HEARTBEAT seconds as a sign of life. `subject` is an account's id or a SPIFFE ID; times in seconds
since the epoch. Bounded by MOST; the one that ends soonest goes first.

A principal whose risk was raised is left alone for MUTE by the same model: a step-up is asked for once, so that a model
alone never keeps anybody out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from .model import Level, Rating

MOST = 2000
MUTE = 3600.0
HEARTBEAT = 2.0


class Risk(msgspec.Struct, frozen=True, array_like=True):
    level: Level
    since: float
    until: float


class Risks:
    """`now` gives the wall clock's seconds since the epoch."""

    def __init__(self, now: Callable[[], float], lasts: float = MUTE) -> None:
        self._now, self._lasts = now, lasts
        self.of: dict[str, Risk] = {}
        self._muted: dict[str, float] = {}
        self._changed = asyncio.Event()

    def muted(self, rating: Rating) -> bool:
        return self._muted.get(f"{rating.subject} {rating.level} {rating.principal}", 0.0) > rating.at

    def mute(self, rating: Rating) -> None:
        key = f"{rating.subject} {rating.level} {rating.principal}"
        self._muted.pop(key, None)
        if len(self._muted) >= 2 * MOST:
            del self._muted[next(iter(self._muted))]
        self._muted[key] = rating.at + MUTE

    def raise_(self, rating: Rating) -> Risk | None:
        """From now on, unless it is over already (an event that was read late) or no level to speak of."""
        now = self._now()
        until = rating.at + self._lasts
        if until <= now or rating.level is Level.LOW:
            return None
        kind, _, subject = rating.principal.partition(":")
        if kind not in ("person", "workload"):
            return None
        known = self.of.get(subject)
        if known is not None and known.level is Level.HIGH and rating.level is Level.MEDIUM and known.until > now:
            return known
        if subject not in self.of and len(self.of) >= MOST:
            del self.of[min(self.of, key=lambda one: self.of[one].until)]
        risk = self.of[subject] = Risk(rating.level, max(now, rating.at), until)
        self._told()
        return risk

    def clear(self, subject: str) -> bool:
        """Whether there was one."""
        found = self.of.pop(subject, None) is not None
        self._told()
        return found

    def active(self) -> dict[str, Risk]:
        now = self._now()
        for subject in [one for one, risk in self.of.items() if risk.until <= now]:
            del self.of[subject]
        return self.of

    def line(self) -> bytes:
        told = [[subject, risk.level, risk.since, risk.until] for subject, risk in self.active().items()]
        return msgspec.json.encode({"risks": told}) + b"\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One follower, until it hangs up."""
        try:
            while not writer.is_closing() and not reader.at_eof():
                changed = self._changed
                writer.write(self.line())
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), HEARTBEAT)
        except OSError:
            pass  # the follower comes again
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _told(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def snapshot(self) -> Any:
        return [list(self.active().items()), list(self._muted.items())]

    def restore(self, content: Any) -> None:
        self.of = {str(subject): msgspec.convert(risk, Risk) for subject, risk in content[0]}
        self._muted = {str(key): float(until) for key, until in content[1]}
