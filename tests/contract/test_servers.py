"""Several servers of one trust domain, on every database: a union that all agree on, told before it is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from tests.people_stores import fresh_database, postgres_server
from tests.unit.workloads.doubles import DOMAIN, MemoryRecorder

from rempart.backends.sql import Database
from rempart.backends.sql_servers import SCHEMA, SqlServers
from rempart.crypto.x509 import Certificate, pem_to_ders
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Conflict, Integrity, Unauthenticated
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads import authority
from rempart.workloads.jwt_authority import JwtAuthority
from rempart.workloads.model import Entry, Selector
from rempart.workloads.shared_bundle import DEAD_AFTER, MARGIN, SharedBundle

__all__ = ["postgres_server"]
KEY = b"k" * 32
LIFE = 1000.0
ENTRY = Entry(
    id="e", spiffe_id=SpiffeId.parse(f"spiffe://{DOMAIN}/a"), selectors=frozenset({Selector.parse("unix:uid:1")})
)


def root(clock: ManualClock) -> Certificate:
    return Certificate.parse(pem_to_ders(authority.create_root("spiffe", DOMAIN, now=clock.now())[0])[0])


class Server:
    def __init__(self, database: Database, name: str, clock: ManualClock, key: bytes = KEY) -> None:
        self.told = 0
        self.bundle = SharedBundle(
            SqlServers(database),
            key,
            name,
            vouches_for=LIFE,
            recorder=MemoryRecorder(),
            clock=clock,
            announce=self._announce,
            period=0.05,
        )
        self.root = root(clock)
        self.jwt = JwtAuthority(DOMAIN, self.bundle, (self.root,), clock, key_ttl=LIFE)

    def _announce(self) -> None:
        self.told += 1

    async def start(self) -> Server:
        await self.bundle.open()
        await self.jwt.advance()
        return self

    @property
    def trusted(self) -> set[str]:
        return {self.root.fingerprint, *(one.fingerprint for one in self.bundle.others.roots)}


Make = Callable[..., Server]


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def servers(request: pytest.FixtureRequest, kind: str) -> AsyncIterator[tuple[Make, ManualClock, Database]]:
    clock = ManualClock()
    async with fresh_database(request, kind, SCHEMA) as database:
        yield lambda name, key=KEY: Server(database, name, clock, key), clock, database


def test_the_bundle_is_the_union_and_all_agree_on_it(request: pytest.FixtureRequest, kind: str) -> None:
    async def main() -> None:
        async with servers(request, kind) as (make, _, __):
            one, two = await make("one").start(), await make("two").start()
            await one.bundle.look()
            assert one.trusted == two.trusted == {one.root.fingerprint, two.root.fingerprint}
            assert one.jwt.public_keys() == two.jwt.public_keys()
            assert (one.bundle.sequence, one.told) == (two.bundle.sequence, 1)
            token = two.jwt.sign(ENTRY, ("a",)).token
            assert one.jwt.validate(token, "a")[0] == ENTRY.spiffe_id
            before = one.bundle.sequence
            for _ in range(3):
                await one.bundle.look()
            assert (one.bundle.sequence, one.told) == (before, 1)

    asyncio.run(main())


def test_a_server_knows_when_all_that_live_tell_what_it_publishes(request: pytest.FixtureRequest, kind: str) -> None:
    async def main() -> None:
        async with servers(request, kind) as (make, clock, _):
            one, two = await make("one").start(), await make("two").start()
            waiting = asyncio.create_task(two.bundle.told_to_all())
            await asyncio.sleep(0.2)
            assert not waiting.done()
            assert two.bundle.told() == ()
            await one.bundle.look()
            await waiting
            assert two.bundle.told() == (two.root.fingerprint,)
            new = root(clock)
            await two.jwt.show_roots((two.root, new))
            await two.bundle.look()
            assert two.bundle.told() == (two.root.fingerprint,)  # so its supervisor doesn't sign with it yet
            await one.bundle.look()
            assert new.fingerprint in one.trusted
            await two.bundle.look()
            assert two.bundle.told() == (two.root.fingerprint, new.fingerprint)

    asyncio.run(main())


def test_nobody_waits_for_the_dead_and_what_they_signed_stays_valid(request: pytest.FixtureRequest, kind: str) -> None:
    async def main() -> None:
        async with servers(request, kind) as (make, clock, _):
            one, two = await make("one").start(), await make("two").start()
            await one.bundle.look()
            await two.bundle.look()
            token = one.jwt.sign(ENTRY, ("a",)).token
            clock.advance(DEAD_AFTER + 1)  # one was killed
            await two.jwt.advance(at_once=True)
            await two.bundle.told_to_all()
            assert two.jwt.validate(token, "a")
            assert one.root.fingerprint in two.trusted
            clock.advance(LIFE)  # its last certificate has expired, its last token has not
            await two.bundle.look()
            assert one.root.fingerprint in two.trusted
            before = two.bundle.sequence
            clock.advance(3600 + 2 * MARGIN + 1)
            await two.bundle.look()
            assert two.trusted == {two.root.fingerprint}
            assert two.bundle.sequence > before
            with pytest.raises(Unauthenticated):
                two.jwt.validate(token, "a")
            assert not [row for row in two.bundle.describe() if row["id"] == "one"]
            await one.bundle.look()  # it only seemed to be dead: it comes back by itself
            await two.bundle.look()
            assert two.trusted == {one.root.fingerprint, two.root.fingerprint}

    asyncio.run(main())


def test_one_that_ended_in_good_order_or_is_long_gone_holds_up_nobody(
    request: pytest.FixtureRequest, kind: str
) -> None:
    async def main() -> None:
        async with servers(request, kind) as (make, clock, _):
            one = await make("one").start()
            await one.bundle.look()
            await one.bundle.leave()
            two = await make("two").start()
            await asyncio.wait_for(two.bundle.told_to_all(), 5)
            await (await make("three").start()).bundle.look()
            await two.bundle.look()
            clock.advance(61)
            four = await make("four").start()
            await asyncio.wait_for(four.bundle.told_to_all(), 5)

    asyncio.run(main())


def test_a_restart_goes_on_with_the_keys_and_the_sequence(request: pytest.FixtureRequest, kind: str) -> None:
    async def main() -> None:
        async with servers(request, kind) as (make, _, __):
            one = await make("one").start()
            token, sequence = one.jwt.sign(ENTRY, ("a",)).token, one.bundle.sequence
            again = await make("one").start()
            assert again.jwt.validate(token, "a")
            assert again.bundle.sequence > sequence
            await again.bundle.look()

    asyncio.run(main())


def test_two_with_the_same_state_directory_are_noticed(request: pytest.FixtureRequest, kind: str) -> None:
    async def main() -> None:
        async with servers(request, kind) as (make, clock, _):
            one = await make("one").start()
            await one.bundle.look()
            await make("one").start()
            clock.advance(5)
            with pytest.raises(Conflict) as refusal:
                await one.bundle.look()
            assert refusal.value.code == "twin_server"

    asyncio.run(main())


def test_the_sequence_never_goes_back_with_the_database(request: pytest.FixtureRequest, kind: str) -> None:
    async def main() -> None:
        async with servers(request, kind) as (make, _, database):
            one = await make("one").start()
            for _ in range(3):
                await one.jwt.advance(at_once=True)
            before = one.bundle.sequence

            def restore(tx: object) -> None:
                tx.execute("UPDATE workload_bundle SET sequence = 1")  # type: ignore[attr-defined]  # a Tx
                tx.execute("DELETE FROM workload_servers")  # type: ignore[attr-defined]  # as above

            await database.write(restore)
            await one.bundle.look()
            assert one.bundle.sequence > before

    asyncio.run(main())


@pytest.mark.parametrize("forgery", ["other key", "swapped", "older"])
def test_the_owner_of_the_database_adds_no_key(request: pytest.FixtureRequest, kind: str, forgery: str) -> None:
    async def main() -> None:
        async with servers(request, kind) as (make, _, database):
            one, two = await make("one").start(), await make("two").start()
            rows = (await SqlServers(database).read()).rows
            old = next(row.sealed for row in rows if row.id == "one")
            change = "UPDATE workload_servers SET sealed = ? WHERE id = 'two'"
            if forgery == "other key":
                with pytest.raises(Integrity):
                    await make("three", b"x" * 32).start()
                return
            if forgery == "older":
                await one.jwt.advance(at_once=True)
                await two.bundle.look()
                await database.write(lambda tx: tx.execute(change.replace("two", "one"), (old,)))
            else:
                await one.bundle.look()
                await database.write(lambda tx: tx.execute(change, (old,)))
            with pytest.raises(Integrity) as refusal:
                await (two if forgery == "older" else one).bundle.look()
            assert refusal.value.code == "server_row_broken"

    asyncio.run(main())
