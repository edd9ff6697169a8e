"""A flood becomes few events, none uncounted, and a journal that is down loses none."""

from __future__ import annotations

import asyncio

import pytest
from tests.people_fakes import MemoryRecorder

from rempart.kernel.errors import Unavailable
from rempart.kernel.event import Event, EventType
from rempart.people.collapse import MAX_KINDS, Collapse


def refusal(**fields: object) -> Event:
    return Event(type=EventType.LOGIN_FAILED, at=1.0, success=False, ip="203.0.113.7", **fields)  # type: ignore[arg-type]


def counted(recorder: MemoryRecorder) -> int:
    return sum(event.details.get("count", 1) for event in recorder.events)


def test_the_first_is_recorded_at_once_and_the_others_as_a_number() -> None:
    async def scenario() -> None:
        recorder = MemoryRecorder()
        collapse = Collapse(recorder)
        for _ in range(100):
            await collapse.record(refusal(details={"account": "a"}), "n1", "a")
        assert len(recorder.events) == 1
        await collapse.flush()
        assert [event.details.get("count") for event in recorder.events] == [None, 99]
        assert recorder.events[1].details["account"] == "a"
        assert recorder.events[0].id != recorder.events[1].id
        await collapse.flush()
        assert len(recorder.events) == 2

    asyncio.run(scenario())


def test_more_kinds_than_that_are_counted_together() -> None:
    async def scenario() -> None:
        recorder = MemoryRecorder()
        collapse = Collapse(recorder)
        for number in range(1000):
            await collapse.record(refusal(person=f"p{number}"), f"n{number}")
        await collapse.flush()
        assert len(recorder.events) == MAX_KINDS + 1
        assert recorder.events[-1].person is None
        assert counted(recorder) == 1000

    asyncio.run(scenario())


def test_what_could_not_be_recorded_stays_counted() -> None:
    async def scenario() -> None:
        recorder = MemoryRecorder()
        collapse = Collapse(recorder)
        for _ in range(5):
            await collapse.record(refusal(), "n1")
        recorder.failing = Unavailable("journal_unavailable", "full")
        with pytest.raises(Unavailable):
            await collapse.flush()
        with pytest.raises(Unavailable):
            await collapse.record(refusal(), "n2")
        recorder.failing = None
        await collapse.flush()
        assert counted(recorder) == 5

    asyncio.run(scenario())


def test_what_may_wait_is_recorded_together_and_answered_after() -> None:
    async def scenario() -> None:
        recorder = MemoryRecorder()
        collapse = Collapse(recorder)
        waiting = [asyncio.create_task(collapse.record(refusal(), f"n{n}", together=True)) for n in range(5)]
        await asyncio.sleep(0)
        await collapse.record(refusal(), "urgent")
        assert len(recorder.events) == 1
        assert not any(task.done() for task in waiting)
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert len(recorder.events) == 6
        recorder.failing = Unavailable("journal_unavailable", "full")
        with pytest.raises(Unavailable):
            await collapse.record(refusal(), "n9", together=True)
        recorder.failing = None
        await asyncio.gather(*waiting)
        await collapse.flush()
        assert counted(recorder) == 6

    asyncio.run(scenario())
