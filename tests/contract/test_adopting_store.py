"""One suite for every `AdoptingStore`: a file of one server, and a database of several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from tests.people_stores import fresh_database, postgres_server
from tests.unit.workloads.doubles import DOMAIN, MemoryRecorder

from rempart.backends.sql_servers import SCHEMA, SqlServers
from rempart.crypto.jose import SigningKey
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Unauthenticated
from rempart.protocols.http_pages import paged, routed
from rempart.workloads import authority
from rempart.workloads.adoption import MAX_KEYS, Adoption
from rempart.workloads.bundle_state import BundleState
from rempart.workloads.jwt_authority import JwtAuthority
from rempart.workloads.model import Adopted
from rempart.workloads.ports import AdoptingStore
from rempart.workloads.shared_bundle import SharedBundle

__all__ = ["postgres_server"]
KEY = b"k" * 32


@pytest.fixture(params=["file", "sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def opened(
    request: pytest.FixtureRequest, kind: str, clock: ManualClock
) -> AsyncIterator[tuple[AdoptingStore, AdoptingStore | None]]:
    """A store, and where there can be one that of another server."""
    if kind == "file":
        path: Path = request.getfixturevalue("tmp_path")
        store = BundleState(path / "state", KEY, clock)
        store.load()
        yield store, None
        return
    async with fresh_database(request, kind, SCHEMA) as database:
        both = [
            SharedBundle(
                SqlServers(database),
                KEY,
                name,
                vouches_for=100.0,
                recorder=MemoryRecorder(),
                clock=clock,
                announce=lambda: None,
            )
            for name in ("one", "two")
        ]
        for one in both:
            await one.open()
        yield both[0], both[1]


def authorities(clock: ManualClock, signing: SigningKey) -> Adopted:
    pem, _ = authority.create_root("spiffe", DOMAIN, now=clock.now())
    jwk = {name: str(value) for name, value in signing.public_jwk().items()}
    return Adopted([pem], [jwk], clock.now() + 1000)


def test_what_is_adopted_vouches_until_it_is_disowned(request: pytest.FixtureRequest, kind: str) -> None:
    async def main() -> None:
        clock, signing = ManualClock(), SigningKey.generate("ES256")
        async with opened(request, kind, clock) as (store, other):
            jwt = JwtAuthority(DOMAIN, store, (), clock, key_ttl=1000)
            await jwt.advance()
            before, now = store.sequence, int(clock.now())
            claims = {"sub": f"spiffe://{DOMAIN}/a", "aud": "a", "iat": now, "exp": now + 60}
            token = signing.sign(claims, typ="JWT")  # SPIRE's name no issuer
            with pytest.raises(Unauthenticated):
                jwt.validate(token, "a")
            what = authorities(clock, signing)
            await store.adopt("spire", what)
            assert store.adopted() == {"spire": what}
            assert (len(store.others.roots), store.sequence > before) == (1, True)
            assert jwt.validate(token, "a")
            if isinstance(other, SharedBundle):
                await other.look()
                assert other.adopted() == {"spire": what}
                assert other.sequence == store.sequence
            sequence = store.sequence
            assert not await store.disown("other")
            assert await store.disown("spire")
            assert (store.adopted(), store.others.roots, store.sequence > sequence) == ({}, (), True)
            with pytest.raises(Unauthenticated):
                jwt.validate(token, "a")

    asyncio.run(main())


def test_it_ends_by_itself(request: pytest.FixtureRequest, kind: str) -> None:
    async def main() -> None:
        clock = ManualClock()
        async with opened(request, kind, clock) as (store, _):
            await JwtAuthority(DOMAIN, store, (), clock, key_ttl=1e6).advance()
            await store.adopt("spire", authorities(clock, SigningKey.generate("ES256")))
            sequence = store.sequence
            clock.advance(1100)
            assert store.adopted() == {}
            if isinstance(store, SharedBundle):
                await store.look()
            elif isinstance(store, BundleState):
                told = asyncio.Event()
                task = asyncio.create_task(store.keep_expired_out(told.set))
                await asyncio.wait_for(told.wait(), 5)
                task.cancel()
            assert (store.others.roots, store.sequence > sequence) == ((), True)

    asyncio.run(main())


@pytest.mark.parametrize(
    "change",
    [{"until": 0}, {"until": 9e12}, {"roots": []}, {"roots": ["x"]}, {"keys": [{"kty": "oct", "k": "AA"}]}, {"x": 1}],
)
def test_what_is_no_authority_is_not_adopted(tmp_path: Path, change: dict[str, object]) -> None:
    async def main() -> None:
        clock, recorder = ManualClock(), MemoryRecorder()
        store = BundleState(tmp_path / "state", KEY, clock)
        adoption = Adoption(DOMAIN, store, recorder, clock, lambda: None, "uid:0")
        app = paged(routed(adoption.routes()))
        good = authorities(clock, SigningKey.generate("ES256"))
        body = {"roots": good.roots, "keys": good.keys, "until": good.until}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://identity") as client:
            answer = await client.post("/adopted/spire", json={**body, **change})
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_adoption")
            assert (store.adopted(), recorder.events) == ({}, [])
            recorder.down = True
            assert (await client.post("/adopted/spire", json=body)).status_code == 503
            assert store.adopted() == {}  # what can't be recorded isn't done
            recorder.down = False
            for _ in range(2):
                assert (await client.post("/adopted/spire", json=body)).status_code == 200
            assert len(recorder.events) == 1
            assert (await client.post("/adopted/Spire..", json=body)).status_code == 400
            assert (await client.delete("/adopted/other")).status_code == 404

    asyncio.run(main())


def test_no_more_is_adopted_than_agents_and_partners_take(tmp_path: Path) -> None:
    """A bundle of more than 64 keys is refused by them, whole: nobody would hear of any change any more."""

    async def main() -> None:
        clock = ManualClock()
        store = BundleState(tmp_path / "state", KEY, clock)
        adoption = Adoption(DOMAIN, store, MemoryRecorder(), clock, lambda: None, "uid:0")
        app = paged(routed(adoption.routes()))
        good = authorities(clock, SigningKey.generate("ES256"))
        keys = [{**good.keys[0], "kid": f"k{number}"} for number in range(MAX_KEYS)]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://identity") as client:

            async def adopt(name: str, count: int) -> int:
                body = {"roots": good.roots, "keys": keys[:count], "until": good.until}
                return (await client.post(f"/adopted/{name}", json=body)).status_code

            assert [await adopt("spire", MAX_KEYS), await adopt("spire", 20), await adopt("other", 20)] == [
                400,
                200,
                400,
            ]
            assert [await adopt("other", 10), await adopt("spire", 1), await adopt("other", 20)] == [200, 200, 200]
            assert (await client.post("/adopted/x", content=b"x" * (2 << 20))).status_code == 400

    asyncio.run(main())
