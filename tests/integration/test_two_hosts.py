"""An agent on another host (a network namespace): the link is cut, slow, lossy, and what its workloads notice of it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.agent_support import AgentProcess, entry_for, running_agent
from tests.identity_support import IdentityProcess, running_identity
from tests.rough_relay import rough_relay
from tests.support import eventually, free_port
from tests.two_hosts import OtherHost, other_host

from rempart.crypto.x509 import Certificate
from rempart.kernel.errors import Denied, Unavailable
from rempart.sdk.spiffe import JwtSvid, fetch_jwt_svid, fetch_x509_svid

TTL = 6


@pytest.fixture
def hosts() -> Iterator[tuple[OtherHost, IdentityProcess, AgentProcess]]:
    port = free_port()
    with (
        other_host() as there,
        running_identity([], agents=(there.here, port)) as identity,
        running_agent(identity, port, host=there.here, prefix=there.prefix) as (agent, name),
    ):
        entries = [entry_for(name, "/batch", ttl=TTL)]
        assert identity.admin("POST", "/entries", {"entries": entries}).status_code == 200
        eventually(lambda: _svid_or_none(agent), within=5)
        yield there, identity, agent


def leaf(agent: AgentProcess) -> Certificate:
    return Certificate.parse(fetch_x509_svid(agent.endpoint).chain[0])


def test_with_the_link_cut_svids_are_served_until_they_end_and_come_back(
    hosts: tuple[OtherHost, IdentityProcess, AgentProcess],
) -> None:
    there, _, agent = hosts
    before = leaf(agent)
    there.cut()
    last = before
    while time.time() < before.not_after - 1:
        last = leaf(agent)  # nobody waits for the server that is away
        assert last.not_after > time.time()
    eventually(lambda: agent.status()["server_away_since"], within=60)
    eventually(lambda: _nothing_is_served(agent), within=last.not_after - time.time() + 5)
    assert time.time() >= last.not_after - 1
    there.mend()
    back = eventually(lambda: _svid_or_none(agent), within=60)
    assert back.serial != last.serial
    eventually(lambda: agent.status()["server_away_since"] is None, within=60)


def test_rotation_goes_on_over_a_slow_and_lossy_link(
    hosts: tuple[OtherHost, IdentityProcess, AgentProcess],
) -> None:
    there, _, agent = hosts
    there.disturb("delay", "150ms", "50ms", "loss", "10%")
    rotates(agent)


def test_rotation_goes_on_where_connections_are_slow_and_break() -> None:
    port = free_port()
    with (
        other_host() as there,
        running_identity([], agents=(there.here, port)) as identity,
        rough_relay(there.here, (there.here, port), delay_s=0.1, loss=0.0) as relay,
        running_agent(identity, relay.port, host=there.here, prefix=there.prefix) as (agent, name),
    ):
        relay.loss = 0.1  # joining is tried once: a token is spent by then
        entries = [entry_for(name, "/batch", ttl=TTL)]
        assert identity.admin("POST", "/entries", {"entries": entries}).status_code == 200
        eventually(lambda: _svid_or_none(agent), within=30)
        rotates(agent)
        assert relay.broken


def rotates(agent: AgentProcess) -> None:
    serials = set()
    end = time.monotonic() + 2.5 * TTL
    while time.monotonic() < end:
        found = leaf(agent)
        assert found.not_after > time.time()
        serials.add(found.serial)
        time.sleep(0.2)  # how often a workload asks
    assert len(serials) >= 3
    token = eventually(lambda: _token_or_none(agent), within=20)
    assert token.spiffe_id.endswith("/batch")


def _token_or_none(agent: AgentProcess) -> JwtSvid | None:
    try:
        return fetch_jwt_svid("audience", endpoint=agent.endpoint)
    except (Denied, Unavailable):
        return None


def _svid_or_none(agent: AgentProcess) -> Certificate | None:
    try:
        return leaf(agent)
    except (Denied, Unavailable):
        return None


def _nothing_is_served(agent: AgentProcess) -> bool:
    return _svid_or_none(agent) is None
