"""Refusals are recorded, and a flood of them can't fill the log: alike ones within a second become one event.

The first of a kind is durable before its answer goes out; the others of that second follow as one event with a count.
More kinds than `MAX_KINDS` in a second are counted together, by type.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rempart.kernel.errors import RempartError
from rempart.kernel.event import Event, Recorder
from rempart.kernel.ids import new_id

WINDOW = 1.0  # seconds
MAX_KINDS = 32
AT_ONCE = 3  # of those that share a write: how many do their part before the loop looks for others' requests


class Collapse:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._more: dict[tuple[str, ...], tuple[Event, int]] = {}
        self._flushing: asyncio.Task[None] | None = None
        self._written = asyncio.Event()
        self._waiting = 0

    async def record(self, event: Event, *kind: str, together: bool = False) -> None:
        """`kind` says which events of this type are alike. Raises Unavailable as the recorder does.

        `together`: it waits for the end of that second, and goes to the disk in one write with all that was counted.
        Each write makes the whole process wait.
        """
        key = (str(event.type), *kind)
        if key not in self._more and len(self._more) >= MAX_KINDS:
            key = (str(event.type),)
            event = replace(event, person=None, ip=None, request_id=None, reason="many of many kinds", details={})
            if key not in self._more:
                self._more[key] = (event, 0)
        if key in self._more:
            last, count = self._more[key]
            self._more[key] = (last if count else event, count + 1)
            return
        self._more[key] = (event, 0)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_later())
        try:
            if together:
                await self._record_together(event)
            else:
                await self._recorder.record(event)
        except RempartError:
            last, count = self._more.pop(key, (event, 0))
            if count:  # others came while this one was tried: they count on
                self._more[key] = (last, count)
            raise

    async def _record_together(self, event: Event) -> None:
        place, self._waiting = self._waiting, self._waiting + 1
        await self._written.wait()
        await self._record_apart(event, place)

    async def _record_apart(self, event: Event, place: int) -> None:
        """In one write with the others, but not all in one turn of the loop, nor all answered in one."""
        for _ in range(place // AT_ONCE):
            await asyncio.sleep(0)
        await self._recorder.record(event)
        for _ in range(place // AT_ONCE):
            await asyncio.sleep(0)

    async def _flush_later(self) -> None:
        while self._more:
            await asyncio.sleep(WINDOW)
            with contextlib.suppress(RempartError):  # what could not be recorded stays counted
                await self.flush()

    async def flush(self) -> None:
        """Record what was counted, in one write; also before the process ends. Raises Unavailable."""
        written, self._written, self._waiting = self._written, asyncio.Event(), 0
        written.set()
        counted = [(key, event, count) for key, (event, count) in self._more.items() if count]
        for key in [key for key, (_, count) in self._more.items() if not count]:
            del self._more[key]
        outcomes = await asyncio.gather(
            *(self._record(*one, place) for place, one in enumerate(counted)), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _record(self, key: tuple[str, ...], event: Event, count: int, place: int) -> None:
        details: Mapping[str, Any] = {**event.details, "count": count}
        await self._record_apart(replace(event, id=new_id("evt"), details=details), place)
        seen = self._more.pop(key, (event, count))[1]
        if seen > count:  # more came while this one was written
            self._more[key] = (event, seen - count)
