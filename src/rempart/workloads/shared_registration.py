"""Registration entries that several servers read and change: each change is decided by what is there at that moment."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence

from rempart.kernel.clock import Clock
from rempart.kernel.errors import RempartError, Unavailable
from rempart.kernel.event import Recorder

from .model import Entry
from .ports import EntriesMoved, SharedEntryStore
from .registrar import Registrar
from .registration import Registration, Step, T

PERIOD = 0.4
"""Seconds until a change at another server is known here."""
_ATTEMPTS = 10


class _Nothing:
    """Entries come with the first look at the shared store."""

    def load(self) -> list[Entry]:
        return []

    def replace(self, put: Sequence[Entry], remove: Sequence[str]) -> None:
        raise AssertionError("shared entries are written elsewhere")

    def close(self) -> None: ...


class SharedRegistration(Registration):
    """While the store is away the entries known go on, and changes raise Unavailable."""

    def __init__(
        self,
        trust_domain: str,
        fixed: Sequence[Entry],
        store: SharedEntryStore,
        recorder: Recorder,
        clock: Clock,
        announce: Callable[[Sequence[Entry]], None],
        *,
        period: float = PERIOD,
    ) -> None:
        super().__init__(trust_domain, fixed, _Nothing(), recorder, clock, announce)
        self._shared = store
        self._revision = 0
        self._period = period

    async def refresh(self) -> None:
        """Raises Unavailable, Integrity `entry_store_broken`; nothing has then changed."""
        async with self._changing:
            await self._look()

    async def keep_following(self) -> None:
        """For ever; what fails is tried again."""
        while True:
            with contextlib.suppress(RempartError):
                await self.refresh()
            await asyncio.sleep(self._period * random.uniform(0.8, 1.2))  # nosec B311 - jitter, no secret

    async def _look(self) -> None:
        changes = await self._shared.changes(self._revision)
        if changes is None:
            return
        gone = [id_ for id_ in self._applied if id_ not in changes.kept]
        self._revision = changes.revision
        self._keep(changes.put, gone)

    async def _transact(
        self, decide: Callable[[], tuple[T, list[Step]]], who: str | None, registrar: Registrar | None
    ) -> T:
        async with self._changing:
            for _ in range(_ATTEMPTS):
                await self._look()
                result, steps = decide()
                try:
                    await self._change(steps, who, registrar)
                except EntriesMoved:
                    continue
                return result
        raise Unavailable("store_unavailable", "other servers change entries all the time", "try again")

    async def _write(self, put: Sequence[Entry], remove: Sequence[str]) -> None:
        self._revision = await self._shared.replace(put, remove, self._revision)
