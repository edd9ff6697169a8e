"""Entries: matching needs every selector, changes are recorded before they count."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.workloads.doubles import DOMAIN, MemoryRecorder, MemoryStore

from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import BadInput, Conflict, NotFound, Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.model import Entry, Facts, Selector
from rempart.workloads.registration import Registration


def entry(path: str, *selectors: str, fixed: bool = False, **more: object) -> Entry:
    parsed = frozenset(map(Selector.parse, selectors or ("unix:uid:1",)))
    base = Entry(id=path if fixed else "", spiffe_id=SpiffeId.parse(f"spiffe://{DOMAIN}{path}"), selectors=parsed)
    return replace(base, fixed=fixed, **more)  # type: ignore[arg-type]  # keyword fields of Entry


class World:
    def __init__(self, *fixed: Entry) -> None:
        self.store, self.recorder, self.clock, self.announced = MemoryStore(), MemoryRecorder(), ManualClock(), 0
        self.registration = Registration(DOMAIN, fixed, self.store, self.recorder, self.clock, self._announce)

    def _announce(self) -> None:
        self.announced += 1


def facts(*selectors: str) -> Facts:
    return Facts(1, 1, 1, frozenset(map(Selector.parse, selectors)))


_SELECTORS = [f"unix:uid:{n}" for n in range(5)] + ["supervisor:service:a", "systemd:id:a.service"]


@settings(max_examples=100, deadline=None)
@given(st.sets(st.sampled_from(_SELECTORS), min_size=1), st.sets(st.sampled_from(_SELECTORS)))
def test_an_entry_matches_exactly_when_all_its_selectors_are_facts(wanted: set[str], known: set[str]) -> None:
    world = World(entry("/a", *wanted, fixed=True))
    assert bool(world.registration.matching(facts(*known))) == (wanted <= known)


def test_applying_twice_changes_nothing_and_records_once() -> None:
    async def main() -> None:
        world = World()
        first = await world.registration.apply([entry("/a")], "uid:0")
        second = await world.registration.apply([entry("/a")], "uid:0")
        assert (len(first.created), len(second.unchanged)) == (1, 1)
        assert world.recorder.types() == ["workloads.entry_changed"]
        assert world.announced == 1
        changed = await world.registration.apply([entry("/a", ttl=9)], "uid:0")
        assert changed.changed[0].id == first.created[0].id
        event = world.recorder.events[-1]
        assert (event.operator, event.before["ttl"], event.after["ttl"]) == ("uid:0", 0, 9)  # type: ignore[index]  # both are there

    asyncio.run(main())


@pytest.mark.parametrize("bad", ["/rempart/gateway", "/rempart"])
def test_reserved_ids_are_refused_and_nothing_of_the_file_is_applied(bad: str) -> None:
    async def main() -> None:
        world = World()
        with pytest.raises(BadInput):
            await world.registration.apply([entry("/good"), entry(bad)], "uid:0")
        assert not world.store.rows
        assert not world.recorder.events

    asyncio.run(main())


def test_what_rempart_toml_declares_can_not_be_changed_or_deleted() -> None:
    async def main() -> None:
        world = World(entry("/a", fixed=True))
        with pytest.raises(Conflict):
            await world.registration.apply([entry("/a", ttl=5)], "uid:0")
        with pytest.raises(Conflict):
            await world.registration.delete(f"spiffe://{DOMAIN}/a", "uid:0")
        with pytest.raises(NotFound):
            await world.registration.delete("other", "uid:0")

    asyncio.run(main())


def test_what_can_not_be_recorded_or_stored_does_not_count() -> None:
    async def main() -> None:
        world = World()
        for part in (world.recorder, world.store):
            part.down = True
            with pytest.raises(Unavailable):
                await world.registration.apply([entry("/a")], "uid:0")
            part.down = False
            assert world.registration.entries() == []
            assert world.announced == 0

    asyncio.run(main())


def test_an_expired_entry_is_nobodys() -> None:
    world = World()
    ends = world.clock.now() + 10
    world = World(entry("/a", fixed=True, expires_at=ends))
    assert world.registration.next_expiry() == ends
    assert world.registration.matching(facts("unix:uid:1"))
    world.clock.advance(10)
    assert not world.registration.matching(facts("unix:uid:1"))
    assert world.registration.next_expiry() is None


def test_one_id_by_two_entries_is_given_once_per_hint() -> None:
    world = World(entry("/a", fixed=True), entry("/a", "unix:gid:1", fixed=True), entry("/a", fixed=True, hint="x"))
    assert len(world.registration.matching(facts("unix:uid:1", "unix:gid:1"))) == 2
