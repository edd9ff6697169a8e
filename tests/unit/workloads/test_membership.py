"""An agent whose disk is full, and what it verifies while its trust domain moves here from another system."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.workloads.doubles import DOMAIN
from tests.unit.workloads.test_agent_signing import ONE, Server, entry, synced

from rempart.crypto.jose import SigningKey
from rempart.crypto.x509 import Certificate
from rempart.kernel.errors import Denied, RempartError, Unauthenticated, Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.agents import membership as module
from rempart.workloads.agents import messages
from rempart.workloads.agents.evidence import ShownToken
from rempart.workloads.agents.knowledge import Knowledge
from rempart.workloads.agents.membership import Membership
from rempart.workloads.agents.messages import Admitted, Join, Renew, Synced, WireEntry
from rempart.workloads.agents.remote import RemoteJwt
from rempart.workloads.model import Entry, X509Svid


class Wire:
    """A `ServerConnection`, and what it was last told to use."""

    def __init__(self, server: Server) -> None:
        self.server, self.asked = server, list[str]()
        self.told: Synced = synced(server)
        self.roots: Any = ()
        self.svid: X509Svid | None = None
        self.forgotten = ""

    def use(self, roots: Any, svid: X509Svid | None) -> None:
        self.roots, self.svid = roots, svid

    async def close(self) -> None: ...

    async def ask(self, method: str, path: str, body: bytes = b"", *, within_s: float) -> bytes:
        self.asked.append(path.partition("?")[0])
        if path == "/v1/host":
            if self.svid is not None and self.svid.leaf.serial == self.forgotten:
                raise Denied("agent_unknown", "it was evicted")
            return b"{}"
        if path.startswith("/v1/sync"):
            return messages.encode(self.told)
        csr = messages.read(body, Join).csr if path == "/v1/join" else messages.read(body, Renew).csr
        request = self.server.signing.request_of(csr, ONE, (ONE, ""))
        chain = await self.server.x509.sign(Entry(id="", spiffe_id=SpiffeId.parse(ONE), selectors=frozenset()), request)
        return messages.encode(Admitted([one.der for one in chain], self.told.bundle))


class World:
    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.full = Server(directory), False
        self.wire, self.path = Wire(self.server), directory / "agent.sealed"
        self.knowledge, self.member = self.agent("token")
        real: Callable[..., None] = module.replace_file

        def replace_file(*arguments: Any) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(*arguments)

        monkeypatch.setattr(module, "replace_file", replace_file)

    def agent(self, token: str = "") -> tuple[Knowledge, Membership]:
        knowledge = Knowledge(DOMAIN, self.server.clock, lambda changed: None)
        member = Membership(
            self.wire,
            knowledge,
            ShownToken(token),
            path=self.path,
            seal_key=b"k" * 32,
            clock=self.server.clock,
            alarm=self._alarm,
        )
        return knowledge, member

    async def _alarm(self, reason: str) -> None: ...

    async def join(self) -> None:
        await self.server.start()
        await self.member.begin(self.wire.told.bundle)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def serial(svid: X509Svid | None) -> str:
    assert svid is not None
    return svid.leaf.serial


def test_a_token_is_not_spent_where_nothing_can_be_kept(world: World) -> None:
    async def scenario() -> None:
        world.full = True
        with pytest.raises(Unavailable) as refusal:
            await world.join()
        assert refusal.value.code == "agent_state_failed"
        assert world.wire.asked == []
        world.full = False
        world.knowledge, world.member = world.agent("token")
        await world.member.begin(world.wire.told.bundle)
        assert world.member.spiffe_id == ONE

    asyncio.run(scenario())


def test_a_new_svid_that_cannot_be_kept_is_not_used_and_asked_for_again(world: World) -> None:
    async def scenario() -> None:
        await world.join()
        first = serial(world.member.svid)
        world.full = True
        with pytest.raises(Unavailable):
            await world.member._renew()
        assert serial(world.member.svid) == serial(world.wire.svid) == first
        world.full = False
        await world.member._renew()
        assert serial(world.member.svid) == serial(world.wire.svid) != first
        _, again = world.agent()
        await again.begin("")
        assert serial(again.svid) == serial(world.member.svid)

    asyncio.run(scenario())


def test_near_its_end_an_svid_is_replaced_by_one_that_is_kept_later(world: World) -> None:
    async def scenario() -> None:
        await world.join()
        first = world.member.svid
        assert first is not None
        world.full = True
        world.server.clock.advance((first.leaf.not_after - world.server.clock.now()) * 0.8)
        await world.member._renew()
        assert serial(world.member.svid) == serial(world.wire.svid) != serial(first)
        world.full = False
        await world.member.synchronise()
        _, again = world.agent()
        await again.begin("")
        assert serial(again.svid) == serial(world.member.svid)

    asyncio.run(scenario())


def test_what_was_held_on_a_connection_of_an_older_svid_ends_no_agent(world: World) -> None:
    async def scenario() -> None:
        await world.join()
        assert world.member.svid is not None
        refusal = Unauthenticated("bad_svid", "it is expired or not yet valid")
        await world.member._heard(refusal)
        world.server.clock.advance(world.member.svid.leaf.not_after - world.server.clock.now())
        with pytest.raises(Unauthenticated):
            await world.member._heard(refusal)

    asyncio.run(scenario())


def test_what_the_server_tells_counts_on_a_full_disk_and_is_kept_later(world: World) -> None:
    async def scenario() -> None:
        await world.join()
        another = Certificate.parse(Server(world.path.parent / "other").roots[0].der)
        world.server.roots.append(another)
        world.wire.told = synced(world.server, WireEntry.of(entry("a", ONE)), sequence=2, version="w")
        world.full = True
        for _ in range(2):
            with pytest.raises(Unavailable):
                await world.member.synchronise()
        assert len(world.knowledge.entries()) == 1
        assert another in world.wire.roots  # else no server below the new root would ever be believed
        world.full = False
        await world.member.synchronise()
        knowledge, again = world.agent()
        await again.begin("")
        assert (len(knowledge.entries()), len(knowledge.roots)) == (1, 2)

    asyncio.run(scenario())


def test_a_host_that_was_forgotten_joins_again_by_a_new_token_and_not_without(world: World) -> None:
    async def scenario() -> None:
        await world.join()
        first = serial(world.member.svid)
        world.wire.forgotten = first
        _, without = world.agent()
        await without.begin("")  # its SVID is valid
        with pytest.raises(Denied):
            await without.ask("/v1/host", within_s=1)
        _, again = world.agent("new token")
        await again.begin("")
        assert await again.ask("/v1/host", within_s=1) == b"{}"
        assert serial(again.svid) == serial(world.wire.svid) != first

    asyncio.run(scenario())


# -- tokens of a system that the trust domain moves away from --------------------------------------------------------


def test_tokens_of_an_adopted_key_may_have_another_issuer(tmp_path: Path) -> None:
    """SPIRE's JWT-SVIDs have the issuer that its server is configured with, or none (`jwt_issuer`)."""
    server = Server(tmp_path)
    spire = SigningKey.generate("ES256")
    now = server.clock.now()
    claims = {"sub": f"spiffe://{DOMAIN}/old", "aud": "x", "iat": int(now), "exp": int(now + 60)}
    tokens = [spire.sign(claims | issuer, typ="JWT") for issuer in ({}, {"iss": "https://spire.example"})]
    bundle = messages.read_answer(synced(server).bundle.encode(), dict)
    bundle["keys"].append({**spire.public_jwk(), "use": "jwt-svid"})
    bundle["spiffe_sequence"] = 2
    told = synced(server, bundle=messages.encode(bundle).decode())
    knowledge = Knowledge(DOMAIN, server.clock, lambda changed: None)
    signer = RemoteJwt(Wire(server), knowledge, server.clock)

    def verified(token: str) -> str:
        try:
            return str(signer.validate(token, "x")[0])
        except RempartError as error:
            return error.code

    knowledge.learn(told, ONE)
    assert [verified(token) for token in tokens] == ["invalid_jwt_svid"] * 2
    adopted = [str(spire.public_jwk()["kid"])]
    knowledge.learn(synced(server, bundle=told.bundle, adopted=adopted, version="w"), ONE)
    assert [verified(token) for token in tokens] == [f"spiffe://{DOMAIN}/old"] * 2
    foreign = SigningKey.generate("ES256").sign(claims, typ="JWT")
    with pytest.raises(Unauthenticated):
        signer.validate(foreign, "x")
    late = spire.sign({**claims, "exp": int(now - 600)}, typ="JWT")
    assert verified(late) == "invalid_jwt_svid"
