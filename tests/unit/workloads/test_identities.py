"""What is given, when it is renewed, and that nothing is given unrecorded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.unit.workloads.doubles import DOMAIN, MemoryRecorder, MemoryStore, SigningSupervisor
from tests.unit.workloads.test_attestation import myself

from rempart.crypto.svid import verify_svid
from rempart.crypto.x509 import Certificate, pem_to_ders
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Denied, Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.attestation import Attestor
from rempart.workloads.bundle_state import BundleState
from rempart.workloads.changes import Changes
from rempart.workloads.identities import Identities
from rempart.workloads.issuing import IssuingAuthority
from rempart.workloads.jwt_authority import JwtAuthority
from rempart.workloads.local_x509 import LocalX509
from rempart.workloads.model import Entry, Selector
from rempart.workloads.process import Process
from rempart.workloads.refusals import Refusals
from rempart.workloads.registration import Registration

GATEWAY = SpiffeId.parse(f"spiffe://{DOMAIN}/rempart/gateway")


class World:
    def __init__(self, path: Path, *names: str, uid: int | None = None) -> None:
        self.clock = ManualClock()
        self.recorder = MemoryRecorder()
        self.supervisor = SigningSupervisor(self.clock, issuing_ttl=1000)
        mine = Selector.parse(f"unix:uid:{os.geteuid() if uid is None else uid}")
        fixed = [
            Entry(
                id=name, spiffe_id=SpiffeId.parse(f"spiffe://{DOMAIN}{name}"), selectors=frozenset({mine}), fixed=True
            )
            for name in names
        ]
        self.authorities = {
            kind: IssuingAuthority(
                kind,
                self.supervisor,
                [Certificate.parse(der) for der in pem_to_ders(self.supervisor.roots[kind][0])],
                self.recorder,
                self.clock,
            )
            for kind in ("spiffe", "web")
        }
        changes = Changes()
        state = BundleState(path / "state", b"k" * 32)
        jwt = JwtAuthority(DOMAIN, state, self.authorities["spiffe"].roots, self.clock, key_ttl=1000)
        asyncio.run(jwt.advance())
        self.identities = Identities(
            trust_domain=DOMAIN,
            gateway=GATEWAY,
            web_names=["localhost"],
            svid_ttl=100,
            attestor=Attestor(self.supervisor),
            registration=Registration(DOMAIN, fixed, MemoryStore(), self.recorder, self.clock, changes.announce),
            spiffe=LocalX509(self.authorities["spiffe"], state, self.clock, ttl=100),
            web=self.authorities["web"],
            jwt=jwt,
            recorder=self.recorder,
            refusals=Refusals(self.recorder, self.clock),
            changes=changes,
            clock=self.clock,
            jitter=lambda: 1.0,
        )

    def issued(self) -> int:
        return self.recorder.types().count("workloads.svid_issued")

    def run(self, work: Callable[[Process], Awaitable[None]]) -> None:
        async def main() -> None:
            for authority in self.authorities.values():
                await authority.rotate()
            await work(process)

        process = myself()
        try:
            asyncio.run(main())
        finally:
            process.close()


def test_a_grant_verifies_and_is_recorded_once_per_certificate(tmp_path: Path) -> None:
    world = World(tmp_path, "/a")

    async def work(process: Process) -> None:
        first = await world.identities.grant(process)
        again = await world.identities.grant(process)
        assert first.svids[0].leaf == again.svids[0].leaf
        assert world.issued() == 1
        roots = [root.der for root in world.identities.bundle().roots]
        chain = [certificate.der for certificate in first.svids[0].chain]
        assert str(verify_svid(chain, roots, trust_domain=DOMAIN, now=world.clock.now())).endswith("/a")
        assert first.refresh_at == world.clock.now() + 30  # before half-life comes the look at the entries

    world.run(work)


def test_at_half_life_there_is_a_new_key(tmp_path: Path) -> None:
    world = World(tmp_path, "/a")

    async def work(process: Process) -> None:
        first = (await world.identities.grant(process)).svids[0]
        world.clock.advance(49)
        assert (await world.identities.grant(process)).svids[0] is first
        world.clock.advance(2)
        second = (await world.identities.grant(process)).svids[0]
        assert second.leaf.serial != first.leaf.serial
        assert second.key.public_der() != first.key.public_der()
        assert world.issued() == 2

    world.run(work)


def test_callers_at_once_share_one_certificate(tmp_path: Path) -> None:
    world = World(tmp_path, "/a")

    async def work(process: Process) -> None:
        grants = await asyncio.gather(*(world.identities.grant(process) for _ in range(20)))
        assert len({grant.svids[0].leaf.serial for grant in grants}) == 1
        assert world.identities.counters.x509_issued == 1

    world.run(work)


def test_what_can_not_be_recorded_is_not_given(tmp_path: Path) -> None:
    world = World(tmp_path, "/a")

    async def work(process: Process) -> None:
        world.recorder.down = True
        for ask in (
            lambda: world.identities.grant(process),
            lambda: world.identities.jwt_svids(process, ["a"], ""),
        ):
            with pytest.raises(Unavailable):
                await ask()
        world.recorder.down = False
        assert await world.identities.grant(process)

    world.run(work)


def test_who_matches_nothing_is_refused_and_the_refusal_is_recorded(tmp_path: Path) -> None:
    world = World(tmp_path, "/a", uid=4_000_000)

    async def work(process: Process) -> None:
        for ask in (
            lambda: world.identities.grant(process),
            lambda: world.identities.jwt_svids(process, ["a"], ""),
        ):
            with pytest.raises(Denied):
                await ask()
        assert world.recorder.types().count("workloads.svid_refused") == 1
        assert world.recorder.events[-1].details["pid"] == process.pid

    world.run(work)


def test_an_expired_issuing_ca_issues_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, "/a")

    async def work(process: Process) -> None:
        world.clock.advance(1001)
        with pytest.raises(Unavailable):
            await world.identities.grant(process)

    world.run(work)


def test_the_web_certificate_is_the_gateways(tmp_path: Path) -> None:
    for name, expected in (("/a", False), (GATEWAY.path, True)):
        world = World(tmp_path, name)

        async def work(process: Process, world: World = world, expected: bool = expected) -> None:
            web = await world.identities.web(await world.identities.grant(process))
            assert (web is not None) is expected

        world.run(work)


def test_what_is_kept_of_tokens_and_deliveries_is_bounded(tmp_path: Path) -> None:
    """Somebody who asks for ever new audiences makes no process grow, and what is still kept is not signed again."""
    world = World(tmp_path, "/a")

    async def work(process: Process) -> None:
        identities = world.identities
        for number in range(300):
            await identities.jwt_svids(process, [f"x{number}"], "")
        signed = identities.counters.jwt_issued
        await identities.jwt_svids(process, ["x299"], "")
        await identities.jwt_svids(process, ["x100"], "")
        assert identities.counters.jwt_issued == signed == 300
        await identities.jwt_svids(process, ["x0"], "")
        assert identities.counters.jwt_issued == 301

    world.run(work)


def test_jwt_svids_are_for_ones_own_identities_only(tmp_path: Path) -> None:
    world = World(tmp_path, "/a", "/b")

    async def work(process: Process) -> None:
        identities = world.identities
        assert len(await identities.jwt_svids(process, ["x"], "")) == 2
        (one,) = await identities.jwt_svids(process, ["x"], f"spiffe://{DOMAIN}/b")
        assert str(identities.validate_jwt(one.token, "x", ())[0]).endswith("/b")
        with pytest.raises(Denied):
            await identities.jwt_svids(process, ["x"], str(GATEWAY))
        again = await identities.jwt_svids(process, ["x"], f"spiffe://{DOMAIN}/b")
        assert again == [one]
        world.clock.advance(151)
        assert await identities.jwt_svids(process, ["x"], f"spiffe://{DOMAIN}/b") != [one]

    world.run(work)


def test_the_shortest_life_in_use_is_measured(tmp_path: Path) -> None:
    world = World(tmp_path, "/a")

    async def work(process: Process) -> None:
        assert world.identities.least_remaining() is None
        await world.identities.grant(process)
        world.clock.advance(10)
        assert world.identities.least_remaining() == 90
        world.clock.advance(100)
        assert world.identities.least_remaining() is None  # nobody has asked for it in a while

    world.run(work)
