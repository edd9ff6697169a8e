"""Entries: matching needs every selector, changes are recorded before they count."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.workloads.doubles import DOMAIN, MemoryRecorder, MemoryStore

from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import BadInput, Conflict, Denied, NotFound, Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.entry_index import EntryIndex
from rempart.workloads.model import Entry, Facts, Selector
from rempart.workloads.registrar import Registrar
from rempart.workloads.registration import Registration


def entry(path: str, *selectors: str, fixed: bool = False, **more: object) -> Entry:
    parsed = frozenset(map(Selector.parse, selectors or ("unix:uid:1",)))
    base = Entry(id=path if fixed else "", spiffe_id=SpiffeId.parse(f"spiffe://{DOMAIN}{path}"), selectors=parsed)
    return replace(base, fixed=fixed, **more)  # type: ignore[arg-type]  # keyword fields of Entry


class World:
    def __init__(self, *fixed: Entry) -> None:
        self.store, self.recorder, self.clock, self.announced = MemoryStore(), MemoryRecorder(), ManualClock(), 0
        self.registration = Registration(DOMAIN, fixed, self.store, self.recorder, self.clock, self._announce)

    def _announce(self, entries: Sequence[Entry]) -> None:
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
        assert changed.changed[0][1].id == first.created[0].id
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
            assert not world.registration.entries()
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


def test_of_several_entries_with_one_hint_the_first_counts() -> None:
    known = [entry("/a", fixed=True, hint="x"), entry("/b", fixed=True, hint="x"), entry("/c", fixed=True)]
    found = World(*known).registration.matching(facts("unix:uid:1"))
    assert [one.spiffe_id.path for one in found] == ["/a", "/c"]


def test_one_id_by_two_entries_is_given_once_per_hint() -> None:
    world = World(entry("/a", fixed=True), entry("/a", "unix:gid:1", fixed=True), entry("/a", fixed=True, hint="x"))
    assert len(world.registration.matching(facts("unix:uid:1", "unix:gid:1"))) == 2


def test_prune_deletes_what_is_not_named_and_a_plan_changes_nothing() -> None:
    async def main() -> None:
        world = World(entry("/fixed", fixed=True))
        await world.registration.apply([entry("/a"), entry("/b")], "uid:0")
        before, recorded = list(world.registration.entries()), len(world.recorder.events)
        plan = world.registration.plan([entry("/a", ttl=5), entry("/c")], prune=True)
        names = [[e.spiffe_id.path for e in part] for part in (plan.created, plan.removed, plan.unchanged)]
        assert names == [["/c"], ["/b"], []]
        assert [(b.ttl, a.ttl) for b, a in plan.changed] == [(0, 5)]
        assert (list(world.registration.entries()), len(world.recorder.events)) == (before, recorded)
        await world.registration.apply([entry("/a", ttl=5), entry("/c")], "uid:0", prune=True)
        assert {e.spiffe_id.path for e in world.registration.entries()} == {"/fixed", "/a", "/c"}
        assert set(world.store.rows) == {e.id for e in world.registration.entries() if not e.fixed}
        assert {e.reason for e in world.recorder.events} == {"created", "changed", "deleted"}
        assert world.registration.plan([entry("/a", ttl=5), entry("/c")], prune=True).empty

    asyncio.run(main())


def test_the_same_id_and_selectors_below_two_parents_are_two_entries() -> None:
    async def main() -> None:
        world = World()
        parents = [f"spiffe://{DOMAIN}/agent/{n}" for n in (1, 2)]
        applied = await world.registration.apply([entry("/a", parent_id=p) for p in parents], "uid:0")
        assert len(applied.created) == 2
        with pytest.raises(BadInput):
            await world.registration.apply([entry("/a"), entry("/a", ttl=3)], "uid:0")

    asyncio.run(main())


CI = Registrar(f"spiffe://{DOMAIN}/ci", ("/jobs",), frozenset({f"spiffe://{DOMAIN}/jobs/ci"}))


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (entry("/wallet"), "outside_registrar"),
        (entry("/jobsworth"), "outside_registrar"),
        (entry("/ci"), "outside_registrar"),
        (entry("/jobs/a", admin=True), "privileged_entry"),
        (entry("/jobs/a", downstream=True), "privileged_entry"),
        (entry("/jobs/declared", "unix:uid:7"), "declared_id"),
        (entry("/jobs/boss", ttl=4), "privileged_entry"),
        (entry("/jobs/boss", "unix:uid:666"), "declared_id"),
        (entry("/jobs/ci", "unix:uid:666"), "declared_id"),
    ],
)
def test_a_registrar_reaches_no_further_than_its_paths(wanted: Entry, code: str) -> None:
    async def main() -> None:
        world = World(entry("/jobs/declared", fixed=True))
        await world.registration.apply([entry("/jobs/boss", admin=True)], "uid:0")
        before = dict(world.store.rows)
        with pytest.raises(Denied) as refusal:
            await world.registration.apply([entry("/jobs/fine"), wanted], CI.spiffe_id, registrar=CI)
        assert refusal.value.code == code
        assert world.store.rows == before

    asyncio.run(main())


def test_a_registrar_prunes_and_deletes_only_its_own() -> None:
    async def main() -> None:
        world = World()
        others = [entry("/wallet"), entry("/jobs/boss", admin=True)]
        await world.registration.apply([*others, entry("/jobs/old")], "uid:0")
        done = await world.registration.apply([entry("/jobs/new")], CI.spiffe_id, prune=True, registrar=CI)
        assert [e.spiffe_id.path for e in done.removed] == ["/jobs/old"]
        event = world.recorder.events[-1]
        assert (event.operator, event.details) == (None, {"registrar": CI.spiffe_id})
        for other in others:
            with pytest.raises(Denied):
                await world.registration.delete(str(other.spiffe_id), CI.spiffe_id, registrar=CI)
        await world.registration.delete(f"spiffe://{DOMAIN}/jobs/new", CI.spiffe_id, registrar=CI)
        assert len(world.store.rows) == 2

    asyncio.run(main())


def test_what_expired_long_ago_is_deleted_and_recorded() -> None:
    async def main() -> None:
        world = World()
        ends = world.clock.now() + 10
        await world.registration.apply([entry("/a", expires_at=ends, admin=True), entry("/b")], "uid:0")
        assert world.registration.is_admin(f"spiffe://{DOMAIN}/a")
        world.clock.advance(20)
        assert not world.registration.is_admin(f"spiffe://{DOMAIN}/a")
        await world.registration.sweep()
        assert len(world.store.rows) == 2
        world.clock.advance(86400)
        await world.registration.sweep()
        assert [e.spiffe_id.path for e in world.store.rows.values()] == ["/b"]
        assert (world.recorder.events[-1].reason, world.recorder.events[-1].operator) == ("expired", None)

    asyncio.run(main())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sets(st.sampled_from(_SELECTORS), min_size=1), st.none() | st.integers(1, 9)), max_size=12),
    st.sets(st.sampled_from(_SELECTORS)),
    st.integers(0, 10),
)
def test_the_index_finds_exactly_what_looking_at_each_entry_finds(
    wanted: list[tuple[set[str], int | None]], known: set[str], now: int
) -> None:
    entries = [entry(f"/{n}", *selectors, fixed=True, expires_at=ends) for n, (selectors, ends) in enumerate(wanted)]
    index = EntryIndex(entries)
    have = frozenset(map(Selector.parse, known))
    assert index.matching(have, now) == [one for one in entries if one.matches(have, now)]
    assert index.next_expiry(now) == min(
        (e.expires_at for e in entries if e.expires_at and e.expires_at > now), default=None
    )
