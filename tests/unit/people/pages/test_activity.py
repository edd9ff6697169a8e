"""What is remembered of each event, and for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.people_fakes import MemoryRecorder

from rempart.kernel.errors import Unavailable
from rempart.kernel.event import Event, EventType
from rempart.people.pages.activity import Activity
from rempart.people.pages.model import Happening


class MemoryActivity:
    def __init__(self) -> None:
        self.lines: list[tuple[str, Happening]] = []
        self.failing = False

    async def add(self, lines: Sequence[tuple[str, Happening]], *, keep: int) -> None:
        if self.failing:
            raise Unavailable("store_unavailable", "down")
        self.lines += lines

    async def of_account(self, account_id: str) -> Sequence[Happening]:
        return [line for whose, line in reversed(self.lines) if whose == account_id]

    async def sweep(self, before: float) -> None:
        return


def event(kind: EventType, **more: Any) -> Event:
    return Event(type=kind, at=5.0, **{"success": True, **more})


@pytest.mark.parametrize(
    ("happened", "whose"),
    [
        (event(EventType.LOGIN, person="usr_a"), "usr_a"),
        (event(EventType.LOGIN_FAILED, success=False, person="usr_a", details={"account": "eml_x"}), "usr_a"),
        (event(EventType.LOGIN_FAILED, success=False, details={"account": "eml_x"}), None),
        (event(EventType.ROLE_CHANGED, person="usr_admin", before={"id": "usr_a"}, after={"id": "usr_a"}), "usr_a"),
        (event(EventType.ACCOUNT_CREATED, operator="uid:0", after={"id": "usr_a"}), "usr_a"),
        (event(EventType.LINK_SENT, person="usr_admin", details={"account": "usr_a"}), "usr_a"),
        (event(EventType.CONSENT_CHANGED, person="usr_a", before={"scopes": []}, after={"scopes": []}), "usr_a"),
        (event(EventType.TOKEN_REFRESHED, person="usr_a"), None),
        (event(EventType.CLIENT_CHANGED, operator="uid:0", after={"id": "shop"}), None),
    ],
)
def test_an_event_is_shown_to_whom_it_concerns(happened: Event, whose: str | None) -> None:
    async def scenario() -> None:
        recorder, store = MemoryRecorder(), MemoryActivity()
        activity = Activity(recorder, store)
        await activity.record(happened)
        await activity.flush()
        assert recorder.events == [happened]
        assert [name for name, _ in store.lines] == ([whose] if whose else [])

    asyncio.run(scenario())


def test_what_was_not_recorded_is_not_remembered() -> None:
    async def scenario() -> None:
        recorder, store = MemoryRecorder(), MemoryActivity()
        recorder.failing = Unavailable("journal_unavailable", "full")
        activity = Activity(recorder, store)
        with pytest.raises(Unavailable):
            await activity.record(event(EventType.LOGIN, person="usr_a"))
        await activity.flush()
        assert store.lines == []

    asyncio.run(scenario())


def test_a_store_that_is_down_delays_and_holds_up_nothing() -> None:
    async def scenario() -> None:
        store = MemoryActivity()
        activity = Activity(MemoryRecorder(), store)
        store.failing = True
        for number in range(3000):
            await activity.record(event(EventType.LOGIN, person=f"usr_{number}"))
            if number % 500 == 0:
                await activity.flush()
        store.failing = False
        await activity.flush()
        assert [name for name, _ in store.lines] == [f"usr_{number}" for number in range(952, 3000)]
        assert (await activity.of_account("usr_2999"))[0].at == 5.0

    asyncio.run(scenario())
