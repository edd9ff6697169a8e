"""The outbox: everything is posted, in order, at least once, whatever the sink does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec
import pytest
from tests.sdk_support import Events, ScriptedTransport

from rempart.kernel.errors import BadInput, Unavailable
from rempart.sdk import Answer, OutgoingEvent, SocketEvents, relay


def event(number: int) -> OutgoingEvent:
    return OutgoingEvent(id=f"evt_{number}", type="money.moved", at=float(number), success=True)


class Box:
    def __init__(self, count: int) -> None:
        self.events = [event(n) for n in range(count)]
        self.fail_once = False

    async def pending(self, limit: int) -> Sequence[OutgoingEvent]:
        return self.events[:limit]

    async def posted(self, ids: Sequence[str]) -> None:
        if self.fail_once:
            self.fail_once = False
            raise Unavailable("ledger_unavailable", "disk")
        self.events = [e for e in self.events if e.id not in ids]


async def until_empty(box: Box, sink: Events, wake: asyncio.Event) -> None:
    task = asyncio.create_task(relay(box, sink, wake, batch=10, idle=5.0, longest_wait=0.02))
    async with asyncio.timeout(5):
        while box.events:
            await asyncio.sleep(0.005)
            sink.down = False
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_everything_is_posted_in_order() -> None:
    box, sink = Box(25), Events()
    asyncio.run(until_empty(box, sink, asyncio.Event()))
    assert [e.id for e in sink.posted] == [f"evt_{n}" for n in range(25)]


def test_a_sink_that_is_down_loses_nothing() -> None:
    box, sink = Box(25), Events()
    sink.down = True
    asyncio.run(until_empty(box, sink, asyncio.Event()))
    assert [e.id for e in sink.posted] == [f"evt_{n}" for n in range(25)]


def test_a_store_that_fails_after_posting_posts_again() -> None:
    box, sink = Box(3), Events()
    box.fail_once = True
    asyncio.run(until_empty(box, sink, asyncio.Event()))
    assert [e.id for e in sink.posted] == ["evt_0", "evt_1", "evt_2"] * 2


def test_an_event_that_is_malformed_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Picky(Events):
        async def post(self, events: Sequence[OutgoingEvent]) -> None:
            if any(e.id == "evt_3" for e in events):
                raise BadInput("bad_event", "no")
            await super().post(events)

    async def play() -> None:
        box, sink = Box(25), Picky()
        task = asyncio.create_task(relay(box, sink, asyncio.Event(), batch=10, idle=0.01))
        async with asyncio.timeout(5):
            while len(box.events) > 1:
                await asyncio.sleep(0.005)
        task.cancel()
        assert [e.id for e in box.events] == ["evt_3"]
        assert len(sink.posted) == 24
        assert "evt_3" in caplog.text

    asyncio.run(play())


def test_a_wake_is_not_missed() -> None:
    async def play() -> None:
        box, sink, wake = Box(0), Events(), asyncio.Event()
        task = asyncio.create_task(relay(box, sink, wake, idle=60.0))
        for number in range(20):
            await asyncio.sleep(0)
            box.events.append(event(number))
            wake.set()
        async with asyncio.timeout(5):
            while len(sink.posted) < 20:
                await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(play())


def test_the_wire_form() -> None:
    transport = ScriptedTransport(lambda question: Answer(204, {}, b""))
    asyncio.run(SocketEvents(transport).post([event(7)]))
    (question,) = transport.asked
    assert (question.method, question.target) == ("POST", "/events")
    assert msgspec.json.decode(question.body) == {
        "events": [{"id": "evt_7", "type": "money.moved", "at": 7.0, "success": True}]
    }


def test_only_204_means_durable() -> None:
    for status in (200, 202, 500, 503, 400):
        sink = SocketEvents(ScriptedTransport(lambda question, status=status: Answer(status, {}, b"")))  # type: ignore[misc]  # mypy can't infer a lambda with a default
        with pytest.raises(Unavailable):
            asyncio.run(sink.post([event(1)]))


def test_stopping_is_never_missed() -> None:
    async def play() -> None:
        for _ in range(200):
            wake = asyncio.Event()
            task = asyncio.create_task(relay(Box(0), Events(), wake, idle=60.0))
            await asyncio.sleep(0.0005)
            wake.set()  # together with the cancellation
            task.cancel()
            async with asyncio.timeout(5):
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    asyncio.run(play())
