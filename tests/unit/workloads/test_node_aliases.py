"""Node aliases: one entry for a group of agents (SPIRE: "Mapping Workloads to Multiple Nodes")."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.unit.workloads.test_registration import World, entry, facts

from rempart.kernel.errors import BadInput, Conflict, Denied
from rempart.workloads.model import Entry
from rempart.workloads.registrar import Registrar

SERVER = "spiffe://bank.example/rempart/server"
PROD = "spiffe://bank.example/hosts/prod"
ONE = "spiffe://bank.example/rempart/agent/k8s/prod/1"
TWO = "spiffe://bank.example/rempart/agent/join_token/two"
FACTS = ("k8s_psat:cluster:prod", "k8s_psat:agent_ns:rempart", "x509pop:subject:cn:a:b", "newer:than:this")


def alias(*selectors: str, path: str = "/hosts/prod", **more: object) -> Entry:
    return entry(path, *selectors, parent_id=SERVER, **more)


def below(path: str, parent: str, **more: object) -> Entry:
    return entry(path, parent_id=parent, **more)


def registered(*entries: Entry) -> World:
    world = World()
    asyncio.run(world.registration.apply(entries, "uid:0"))
    return world


def given(world: World, agent: str, found: Sequence[str]) -> set[str]:
    return {one.spiffe_id.path for one in world.registration.of_agent(agent, found)}


def test_an_alias_is_every_agent_that_has_all_its_selectors() -> None:
    world = registered(
        alias("k8s_psat:cluster:prod", "k8s_psat:agent_ns:rempart"), below("/batch", PROD), below("/own", ONE)
    )
    assert given(world, ONE, FACTS) == {"/batch", "/own"}
    assert given(world, ONE, FACTS[:1]) == {"/own"}
    assert given(world, TWO, FACTS) == {"/batch"}
    assert given(world, TWO, ()) == set()


def test_agents_can_be_named_one_by_one() -> None:
    world = registered(alias(f"spiffe_id:{ONE}"), alias(f"spiffe_id:{TWO}"), below("/batch", PROD))
    assert given(world, ONE, ()) == given(world, TWO, ()) == {"/batch"}
    assert given(world, ONE + "0", ()) == set()


def test_neither_an_alias_nor_what_is_below_it_is_anybodys_on_the_servers_host() -> None:
    world = registered(alias("k8s_psat:cluster:prod"), below("/batch", PROD), entry("/here"))
    assert [one.spiffe_id.path for one in world.registration.matching(facts("unix:uid:1"))] == ["/here"]


def test_an_alias_stays_as_long_as_anything_is_below_it() -> None:
    """What is below it would be for processes of the server's host from then on."""
    world = World()
    ends = world.clock.now() + 10
    first, second = alias("k8s_psat:cluster:prod", expires_at=ends), alias(f"spiffe_id:{TWO}")
    asyncio.run(world.registration.apply([first, second, below("/batch", PROD)], "uid:0"))
    with pytest.raises(Conflict) as refusal:
        asyncio.run(world.registration.delete(PROD, "uid:0"))
    assert refusal.value.code == "alias_in_use"
    asyncio.run(world.registration.apply([first, below("/batch", PROD)], "uid:0", prune=True))  # one of two may go
    with pytest.raises(Conflict):
        asyncio.run(world.registration.apply([below("/batch", PROD)], "uid:0", prune=True))
    world.clock.advance(10 * 86400)
    asyncio.run(world.registration.sweep())
    assert world.registration.matching(facts("unix:uid:1")) == []
    asyncio.run(world.registration.apply([entry("/here")], "uid:0", prune=True))
    assert [one.spiffe_id.path for one in world.registration.entries()] == ["/here"]


def test_an_alias_ends_with_its_time() -> None:
    world = World()
    ends = world.clock.now() + 10
    wanted = [alias("k8s_psat:cluster:prod", expires_at=ends), below("/batch", PROD)]
    asyncio.run(world.registration.apply(wanted, "uid:0"))
    assert given(world, ONE, FACTS) == {"/batch"}
    world.clock.advance(10)
    assert given(world, ONE, FACTS) == set()


@pytest.mark.parametrize(
    "wrong",
    [
        alias("unix:uid:1"),
        alias("k8s_psat:cluster:prod", "unix:uid:1"),
        entry("/batch", "k8s_psat:cluster:prod"),
        entry("/batch", f"spiffe_id:{ONE}", parent_id=PROD),
    ],
)
def test_selectors_that_could_never_match_are_refused(wrong: Entry) -> None:
    world = World()
    with pytest.raises(BadInput) as refusal:
        asyncio.run(world.registration.apply([wrong], "uid:0"))
    assert refusal.value.code == "bad_selector"


def test_a_registrar_gives_nobodys_entries_to_other_hosts() -> None:
    """Who may register below /hosts could else name its own host as one more of `prod`, and get what runs there."""
    ci = Registrar("spiffe://bank.example/ci", ("/hosts", "/jobs"))
    world = registered(alias("k8s_psat:cluster:prod"), below("/batch", PROD))
    with pytest.raises(Denied) as refusal:
        asyncio.run(world.registration.apply([alias(f"spiffe_id:{TWO}")], ci.spiffe_id, registrar=ci))
    assert refusal.value.code == "privileged_entry"
    with pytest.raises(Denied):
        asyncio.run(world.registration.delete(PROD, ci.spiffe_id, registrar=ci))
    asyncio.run(world.registration.apply([below("/jobs/a", PROD)], ci.spiffe_id, prune=True, registrar=ci))
    assert given(world, TWO, ()) == set()
    assert given(world, ONE, FACTS) == {"/batch", "/jobs/a"}
