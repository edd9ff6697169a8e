"""Refusals are recorded without letting the refused write the log full."""

from __future__ import annotations

import asyncio

from tests.unit.workloads.doubles import MemoryRecorder

from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Denied
from rempart.workloads.refusals import MAX_KINDS, Refusals

ERROR = Denied("no_identity", "no entry matches")


def test_a_thousand_refusals_are_two_events_and_none_is_lost() -> None:
    async def main() -> None:
        clock, recorder = ManualClock(), MemoryRecorder()
        refusals = Refusals(recorder, clock)
        for _ in range(1000):
            await refusals.refused(1000, ERROR, {"pid": 1})
        clock.advance(11)
        await refusals.flush()
        await refusals.flush()
        assert [event.details["repeated"] for event in recorder.events] == [0, 999]
        assert refusals.total == 1000

    asyncio.run(main())


def test_users_and_reasons_are_told_apart() -> None:
    async def main() -> None:
        recorder = MemoryRecorder()
        refusals = Refusals(recorder, ManualClock())
        await refusals.refused(1, ERROR, {})
        await refusals.refused(2, ERROR, {})
        await refusals.refused(1, Denied("caller_changed", "x"), {})
        assert len(recorder.events) == 3

    asyncio.run(main())


def test_ever_new_users_share_one_window() -> None:
    async def main() -> None:
        recorder = MemoryRecorder()
        refusals = Refusals(recorder, ManualClock())
        for uid in range(MAX_KINDS * 4):
            await refusals.refused(uid, ERROR, {})
        assert len(recorder.events) == MAX_KINDS + 1

    asyncio.run(main())


def test_a_refusal_stands_when_the_journal_is_down() -> None:
    async def main() -> None:
        recorder = MemoryRecorder()
        recorder.down = True
        await Refusals(recorder, ManualClock()).refused(1, ERROR, {})

    asyncio.run(main())
