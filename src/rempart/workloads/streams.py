"""What every stream of identities has in common: say what there is, and again whenever it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rempart.kernel.errors import Unavailable

from .identities import Identities, NothingValid
from .process import Process

T = TypeVar("T")
RETRY = 1.0
LOOK_AGAIN = 30.0


async def push_changes(
    identities: Identities,
    process: Process,
    make: Callable[[], Awaitable[tuple[T, float]]],
    send: Callable[[T], Awaitable[None]],
    *,
    also: asyncio.Event | None = None,
) -> None:
    """Send what `make` gives at once, and again each time it is different. `make` returns it and when to ask again.

    While nothing can be issued or recorded the stream stays and tries on: what the peer has is still valid. Before the
    first message that is an error, and when what it has ended. `also` being set is a reason to ask again. Runs until
    the peer leaves or `make` refuses.
    """
    last: T | None = None
    while True:
        if also is not None:
            also.clear()
        seen = identities.changes.version
        try:
            message, refresh_at = await make()
        except Unavailable as error:
            if last is None or isinstance(error, NothingValid):
                raise
            await _wait(identities, seen, RETRY, also)
            continue
        if message != last:
            await send(message)
            last = message
        await _until_concerned(identities, process, seen, min(refresh_at - identities.clock.now(), LOOK_AGAIN), also)


async def _until_concerned(
    identities: Identities, process: Process, seen: int, timeout_s: float, also: asyncio.Event | None
) -> None:
    """Until something changes that may matter to this process, or the time is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while True:
        await _wait(identities, seen, end - loop.time(), also)
        if (also is not None and also.is_set()) or loop.time() >= end or identities.changes.version == seen:
            return
        if identities.concerned(process, seen):
            return
        seen = identities.changes.version


async def _wait(identities: Identities, seen: int, timeout_s: float, also: asyncio.Event | None) -> None:
    if also is None:
        await identities.changes.wait(seen, timeout_s)
        return
    waiting = {
        asyncio.create_task(identities.changes.wait(seen, timeout_s)),
        asyncio.create_task(also.wait()),
    }
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
