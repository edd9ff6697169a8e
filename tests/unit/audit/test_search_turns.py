"""Searches of one principal wait behind those of others, whatever their number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.support_audit import asynchronous

from rempart.audit import search_turns
from rempart.audit.search_turns import AT_ONCE, WAITING, SearchTurns
from rempart.kernel.errors import Throttled, Unavailable


class Searches:
    """`ask` begins a search that runs until `finish`."""

    def __init__(self) -> None:
        self.turns = SearchTurns()
        self.running: list[str] = []
        self.crowded: dict[str, Callable[[], bool]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    def ask(self, name: str) -> asyncio.Task[None]:
        """`name`: the principal and, behind a dash, which of theirs."""
        self._ends[name] = asyncio.Event()
        return asyncio.create_task(self._search(name))

    async def _search(self, name: str) -> None:
        async with self.turns.turn(name.partition("-")[0]) as crowded:
            self.running.append(name)
            self.crowded[name] = crowded
            try:
                await self._ends[name].wait()
            finally:
                self.running.remove(name)

    async def finish(self, name: str) -> None:
        self._ends[name].set()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@asynchronous
async def test_one_principal_runs_one_search_and_leaves_room_for_others() -> None:
    searches = Searches()
    mallory = [searches.ask(f"mallory-{n}") for n in range(WAITING + 1)]
    await settle()
    assert searches.running == ["mallory-0"]
    alice = searches.ask("alice-0")
    await settle()
    assert searches.running == ["mallory-0", "alice-0"]
    assert not searches.crowded["mallory-0"]()  # only Mallory's own wait
    assert searches.crowded["alice-0"]()
    for task in (*mallory, alice):
        task.cancel()
    await asyncio.gather(*mallory, alice, return_exceptions=True)


@asynchronous
async def test_who_waits_is_served_in_turns() -> None:
    searches = Searches()
    tasks = [searches.ask(f"mallory-{n}") for n in range(4)]
    tasks += [searches.ask(f"trudy-{n}") for n in range(4)]
    await settle()
    assert len(searches.running) == AT_ONCE
    tasks += [searches.ask("alice-0"), searches.ask("bob-0")]
    await settle()
    order = []
    while searches.running:
        for name in list(searches.running):
            if name not in order:
                order.append(name)
        await searches.finish(searches.running[0])
    assert len(order) == 10
    assert order[2:4] == ["alice-0", "bob-0"]  # not behind the others' lines
    await asyncio.gather(*tasks)


@asynchronous
async def test_more_than_a_few_of_one_principal_are_refused_at_once() -> None:
    searches = Searches()
    tasks = [searches.ask(f"mallory-{n}") for n in range(WAITING + 1)]
    await settle()
    with pytest.raises(Throttled) as refused:
        await searches.ask("mallory-x")
    assert refused.value.code == "too_many_searches"
    assert refused.value.retry_after > 0
    for n in range(WAITING + 1):
        await searches.finish(f"mallory-{n}")
    await asyncio.gather(*tasks)
    again = searches.ask("mallory-y")
    await settle()
    assert searches.running == ["mallory-y"]
    await searches.finish("mallory-y")
    await again


@asynchronous
async def test_who_waits_too_long_is_refused_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = Searches()
    tasks = [searches.ask("mallory-0"), searches.ask("trudy-0")]
    await settle()
    monkeypatch.setattr(search_turns, "_PATIENCE", 0.01)
    with pytest.raises(Unavailable) as refused:
        await searches.ask("alice-0")
    assert refused.value.code == "search_busy"
    assert not searches.crowded["mallory-0"]()
    for name in ("mallory-0", "trudy-0"):
        await searches.finish(name)
    await asyncio.gather(*tasks)
    monkeypatch.undo()
    both = [searches.ask("alice-1"), searches.ask("bob-1")]
    await settle()
    assert searches.running == ["alice-1", "bob-1"]
    for name in ("alice-1", "bob-1"):
        await searches.finish(name)
    await asyncio.gather(*both)


@asynchronous
async def test_a_turn_that_comes_as_its_owner_goes_is_passed_on() -> None:
    searches = Searches()
    tasks = [searches.ask("mallory-0"), searches.ask("trudy-0")]
    await settle()
    alice = searches.ask("alice-0")
    await settle()
    bob = searches.ask("bob-0")
    await settle()
    searches._ends["mallory-0"].set()
    alice.cancel()
    await settle()
    assert "bob-0" in searches.running
    for name in ("trudy-0", "bob-0"):
        await searches.finish(name)
    await asyncio.gather(*tasks, bob)
    assert alice.cancelled()
