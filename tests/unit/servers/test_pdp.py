"""A PDP lives as long as what it follows is followed."""

from __future__ import annotations

import asyncio

import pytest

from rempart.servers.pdp import until_stopped


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_told_to_stop_it_stops_and_cancels_its_tasks() -> None:
    async def scenario() -> None:
        stop, task = asyncio.Event(), asyncio.create_task(for_ever())
        waiting = asyncio.create_task(until_stopped(stop, [task]))
        await asyncio.sleep(0)
        assert not waiting.done()
        stop.set()
        await waiting
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [ZeroDivisionError, None])
def test_it_ends_with_a_task_that_ends(error: type[Exception] | None) -> None:
    """Else it would decide by what it heard last, and never call that stale."""

    async def follow() -> None:
        await asyncio.sleep(0)
        if error is not None:
            raise error

    async def scenario() -> None:
        other = asyncio.create_task(for_ever())
        try:
            await until_stopped(asyncio.Event(), [other, asyncio.create_task(follow())])
        finally:
            await asyncio.gather(other, return_exceptions=True)
            assert other.cancelled()

    with pytest.raises(error or RuntimeError):
        asyncio.run(asyncio.wait_for(scenario(), 30))
