"""Whose risk the models raised, as they tell it: heard, never asked for, and kept no longer than it lasts.

Fails open, on purpose: without models, or while they are silent, nobody has to prove themselves again, and what was
told lasts until its own end. A model may be wrong, and must not be able to close the gate. What it asks for is one more
login: a token whose `auth_time` is later than the risk passes. Tokens without `auth_time` (programs') can't be stepped
up; policies see their level in `input.context.risk`, as everybody's.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import msgspec

from rempart.kernel.clock import Clock

from .claims import Claims

_SILENCE = 8.0  # seconds: four missed signs of life, then the connection is made anew
_PAUSES = (0.1, 0.5, 2.0, 5.0)
_LINE = 1 << 20  # bytes
MOST = 2000
LONGEST = 86_400.0  # seconds that a risk lasts at most, whatever is told


class Risk(msgspec.Struct, frozen=True):
    """`level` is `medium` or `high`; times in seconds since the epoch."""

    level: str
    since: float
    until: float


class _Told(msgspec.Struct, frozen=True):
    risks: list[tuple[str, str, float, float]] = []


class Risks:
    """`of` is read on the hot path: empty for most systems most of the time. `step_up`: high ones need a new login."""

    def __init__(self, *, step_up: bool = True) -> None:
        self.of: dict[str, Risk] = {}
        self.step_up = step_up
        self.told = 0

    def take(self, risks: list[tuple[str, str, float, float]], now: float) -> None:
        """All there are, in place of those of before."""
        self.told += 1
        self.of = {
            subject: Risk(level, since, min(until, now + LONGEST))
            for subject, level, since, until in risks[:MOST]
            if until > now and level in ("medium", "high")
        }

    def member(self, claims: Claims | None, peer: str, now: float) -> str:
        """What stands in the policy's input: `,"risk":"high"`, or nothing."""
        risk = self.of.get(claims.subject if claims else peer) if self.of else None
        return f',"risk":"{risk.level}"' if risk is not None and risk.until > now else ""

    def must_prove(self, claims: Claims, now: float) -> bool:
        """Whether the person has to log in again before this token's session goes on."""
        risk = self.of.get(claims.subject)
        if risk is None or not self.step_up or risk.level != "high" or not claims.authenticated:
            return False
        return risk.until > now and claims.authenticated <= risk.since


class RiskFollower:
    """Keeps `risks` up with the models, over their unix socket."""

    def __init__(self, risks: Risks, path: str, clock: Clock) -> None:
        self._risks, self._path, self._clock = risks, path, clock

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            try:
                async for risks in _lines(self._path):
                    failures = 0
                    self._risks.take(risks, self._clock.now())
            except (OSError, ValueError, msgspec.DecodeError, TimeoutError) as error:
                if failures == 0:
                    print(f"pdp: the models tell no risks ({type(error).__name__})", file=sys.stderr, flush=True)
            await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1


async def _lines(path: str) -> AsyncIterator[list[tuple[str, str, float, float]]]:
    reader, writer = await asyncio.open_unix_connection(path, limit=_LINE)
    try:
        while line := await asyncio.wait_for(reader.readline(), _SILENCE):
            yield msgspec.json.decode(line, type=_Told).risks
    finally:
        writer.close()
