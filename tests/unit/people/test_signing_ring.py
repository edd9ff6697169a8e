"""Rotation refuses nothing, a leak refuses at once, what is at rest tells nothing, instances share one ring."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.people_fakes import MemoryRecorder
from tests.people_stores import fresh_sqlite

from rempart.backends.sql import Database
from rempart.backends.sql_ring import SCHEMA, SqlRing
from rempart.backends.sqlite_sql import SqliteDatabase
from rempart.crypto.jose import Jwks, SigningKey, explain_token_failure
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Conflict, Integrity, NotFound, Unavailable
from rempart.people.model import Origin
from rempart.people.signing_keys import SealedRing, SigningKeys
from rempart.people.signing_ring import CLOCK_SKEW, MOST_PUBLISHED, MOST_RETIRED, KeyState, Ring

BOTH = ("EdDSA", "ES256")
TTL, LEAD, LIFE = 600.0, 100.0, 5000.0
KEYS = [SigningKey.generate("EdDSA") for _ in range(24)]
OTHERS = [SigningKey.generate("ES256") for _ in range(24)]
CACHE = 60.0  # seconds for which a verifier believes its key set


class Rotating(RuleBasedStateMachine):
    """Verifiers with key sets up to `CACHE` old accept every token until it expires, whatever the operator does."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.used = 1_000_000.0, 2
        self.ring = Ring.first([(KEYS[0], KEYS[1]), (OTHERS[0], OTHERS[1])], now=self.now, ttl=TTL)
        self.sets = [(self.now, {key.kid for key in self.ring.published()})]
        self.tokens: list[tuple[float, str]] = []

    def _publish(self) -> None:
        self.sets.append((self.now, {key.kid for key in self.ring.published()}))

    @rule(algorithm=st.sampled_from(BOTH))
    def sign(self, algorithm: str) -> None:
        self.tokens.append((self.now + TTL, self.ring.active(algorithm).kid))

    @rule(seconds=st.sampled_from([1.0, 50.0, 99.0, 101.0, 599.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.ring = self.ring.settle(now=self.now, ttl=TTL, remember=1e9)
        self._publish()

    @rule(algorithms=st.sampled_from([BOTH, BOTH[:1], BOTH[1:]]))
    def rotate(self, algorithms: tuple[str, ...]) -> None:
        if self.used < len(KEYS):
            both = {"EdDSA": KEYS[self.used], "ES256": OTHERS[self.used]}
            fresh = {name: both[name] for name in algorithms}
            try:
                self.ring = self.ring.rotate(fresh, now=self.now, lead=LEAD, ttl=TTL)
            except Conflict:
                return
            self.used += 1
            self._publish()

    @invariant()
    def nothing_is_refused(self) -> None:
        believed = [kids for at, kids in self.sets if at <= self.now - CACHE][-1:]
        believed += [kids for at, kids in self.sets if at > self.now - CACHE]
        for expires, kid in self.tokens:
            if expires > self.now:
                assert all(kid in kids for kids in believed)

    @invariant()
    def one_signs_and_one_is_next(self) -> None:
        states = [(key.algorithm, key.state) for key in self.ring.keys]
        for algorithm in BOTH:
            assert states.count((algorithm, KeyState.ACTIVE)) == states.count((algorithm, KeyState.NEXT)) == 1
        for key in self.ring.keys:
            assert (key.private_jwk is not None) == (key.state in (KeyState.ACTIVE, KeyState.NEXT))


TestRotating = Rotating.TestCase
TestRotating.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def ring() -> Ring:
    return Ring.first([(KEYS[0], KEYS[1])], now=0.0, ttl=TTL)


def fresh(number: int) -> dict[str, SigningKey]:
    return {"EdDSA": KEYS[number]}


def test_a_key_verifies_as_long_as_its_longest_token() -> None:
    turned = ring().rotate(fresh(2), now=1000.0, lead=LEAD, ttl=60.0)  # tokens were made shorter since
    end = 1000.0 + TTL + CLOCK_SKEW
    assert KEYS[0].kid in {key.kid for key in turned.settle(now=end - 1, ttl=60, remember=1e9).published()}
    settled = turned.settle(now=end, ttl=60, remember=1e9)
    assert KEYS[0].kid not in {key.kid for key in settled.published()}
    assert next(key for key in settled.keys if key.kid == KEYS[0].kid).retired_for == "age"
    assert len(settled.settle(now=end + 100, ttl=60, remember=50).keys) == 2


def test_of_retired_keys_the_last_ones_are_listed() -> None:
    turned = ring()
    made = [SigningKey.generate("EdDSA") for _ in range(MOST_RETIRED + 5)]
    for number, key in enumerate(made):
        turned = turned.retire(turned.active("EdDSA").kid, key, now=float(number), ttl=TTL)
    settled = turned.settle(now=100.0, ttl=TTL, remember=1e9)
    retired = [key.retires_at for key in settled.keys if key.state is KeyState.RETIRED]
    assert retired == [float(number) for number in range(5, MOST_RETIRED + 5)]
    assert len(settled.keys) == MOST_RETIRED + 2


def test_a_leaked_key_is_out_at_once_in_whatever_state() -> None:
    active = ring().retire(KEYS[0].kid, KEYS[2], now=1.0, ttl=TTL)
    assert (active.active("EdDSA").kid, active.next("EdDSA").kid) == (KEYS[1].kid, KEYS[2].kid)
    following = ring().retire(KEYS[1].kid, KEYS[2], now=1.0, ttl=TTL)
    assert (following.active("EdDSA").kid, following.next("EdDSA").kid) == (KEYS[0].kid, KEYS[2].kid)
    old = ring().rotate(fresh(2), now=1000.0, lead=LEAD, ttl=TTL).retire(KEYS[0].kid, KEYS[3], now=1001.0, ttl=TTL)
    assert {key.kid for key in old.published()} == {KEYS[1].kid, KEYS[2].kid}
    with pytest.raises(Conflict, match="retired"):
        old.retire(KEYS[0].kid, KEYS[3], now=3.0, ttl=TTL)
    with pytest.raises(NotFound):
        old.retire("nobody", KEYS[3], now=3.0, ttl=TTL)


async def signing_keys(
    database: Database, clock: ManualClock, recorder: MemoryRecorder, **fields: object
) -> SigningKeys:
    signing = {"algorithms": ["EdDSA"], "access": "EdDSA"}
    options: dict[str, object] = {**signing, "token_ttl": TTL, "key_ttl": LIFE, "lead": LEAD, **fields}
    sealed = SealedRing(SqlRing(database), b"k" * 32)
    return await SigningKeys(sealed, recorder, clock, **options).start()  # type: ignore[arg-type]


def on_sqlite(directory: Path, scenario: Callable[[SqliteDatabase], Coroutine[Any, Any, None]]) -> None:
    async def body() -> None:
        async with fresh_sqlite(directory, SCHEMA) as database:
            await scenario(database)

    asyncio.run(body())


def test_it_turns_on_schedule_and_the_same_keys_are_there_after_a_restart(tmp_path: Path) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        clock, recorder = ManualClock(), MemoryRecorder()
        keys = await signing_keys(database, clock, recorder)
        first, token = (
            keys.access_signer.kid,
            keys.access_signer.sign({"iss": "i", "aud": "a", "sub": "s", "exp": clock.now() + 9}),
        )
        await keys.maintain()
        assert keys.access_signer.kid == first
        clock.advance(LIFE)
        await keys.maintain()
        assert keys.access_signer.kid != first
        assert explain_token_failure(token, keys.jwks, "i", "a", clock.now() - LIFE) == ""
        again = await signing_keys(database, clock, recorder)
        assert again.document == keys.document
        assert again.access_signer.kid == keys.access_signer.kid
        assert recorder.types() == ["people.signing_key_rotated"]
        clock.advance(TTL + CLOCK_SKEW)
        await again.maintain()
        assert first not in again.jwks.kids()
        assert (await signing_keys(database, clock, recorder)).jwks.kids() == again.jwks.kids()

    on_sqlite(tmp_path, scenario)


def test_a_turn_that_cannot_be_recorded_does_not_happen(tmp_path: Path) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        recorder = MemoryRecorder()
        keys = await signing_keys(database, ManualClock(), recorder)
        before = keys.document
        recorder.failing = Unavailable("journal_unavailable", "the disk is full")
        with pytest.raises(Unavailable):
            await keys.rotate(Origin())
        assert keys.document == before
        recorder.failing = None
        await keys.rotate(Origin(operator="uid:0"))
        assert recorder.events[-1].operator == "uid:0"
        assert "private" not in json.dumps([dict(e.after or {}) for e in recorder.events])

    on_sqlite(tmp_path, scenario)


def test_the_ring_is_sealed_at_rest(tmp_path: Path) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        keys = await signing_keys(database, ManualClock(), MemoryRecorder())
        held = await SqlRing(database).load(0)
        assert held is not None
        assert keys.access_signer.kid.encode() not in held[1]
        with pytest.raises(Integrity):
            await SealedRing(SqlRing(database), b"x" * 32).load()
        changed = held[1][:-1] + bytes([held[1][-1] ^ 1])
        await database.write(lambda tx: tx.execute("UPDATE signing_rings SET sealed = ?", (changed,)))
        with pytest.raises(Integrity):
            await signing_keys(database, ManualClock(), MemoryRecorder())

    on_sqlite(tmp_path, scenario)


def test_a_new_algorithm_signs_access_tokens_once_gateways_know_its_key(tmp_path: Path) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        clock, recorder = ManualClock(), MemoryRecorder()
        await signing_keys(database, clock, recorder)
        clock.advance(1)
        keys = await signing_keys(database, clock, recorder, algorithms=BOTH, access="ES256")
        assert keys.ring.algorithms == set(BOTH)
        assert keys.access_signer.algorithm == "EdDSA"
        assert keys.signer("ES256").algorithm == "ES256"
        assert len(Jwks.parse(keys.document).kids()) == 4
        clock.advance(LEAD)
        assert keys.access_signer.algorithm == "ES256"

    on_sqlite(tmp_path, scenario)


def test_an_algorithm_that_is_given_up_signs_no_more_and_verifies_to_the_end(tmp_path: Path) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        clock, recorder = ManualClock(), MemoryRecorder()
        both = await signing_keys(database, clock, recorder, algorithms=BOTH, access="ES256")
        token = both.access_signer.sign({"iss": "i", "aud": "a", "sub": "s", "exp": clock.now() + TTL})
        given_up = both.access_signer.kid
        keys = await signing_keys(database, clock, recorder)
        assert keys.access_signer.algorithm == "EdDSA"
        with pytest.raises(Unavailable):
            keys.signer("ES256")
        assert explain_token_failure(token, keys.jwks, "i", "a", clock.now() + TTL - 1) == ""
        clock.advance(TTL + CLOCK_SKEW)
        await keys.maintain()
        assert given_up not in keys.jwks.kids()
        assert len(keys.jwks.kids()) == 2

    on_sqlite(tmp_path, scenario)


def test_every_algorithm_turns_and_a_leak_turns_its_own_only(tmp_path: Path) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        clock, recorder = ManualClock(), MemoryRecorder()
        keys = await signing_keys(database, clock, recorder, algorithms=BOTH)
        first = {name: keys.signer(name).kid for name in BOTH}
        await keys.rotate(Origin(), retire_now=first["ES256"])
        assert keys.signer("EdDSA").kid == first["EdDSA"]
        assert first["ES256"] not in keys.jwks.kids()
        second = keys.signer("ES256").kid
        clock.advance(LEAD)
        await keys.rotate(Origin())
        assert not {keys.signer(name).kid for name in BOTH} & {first["EdDSA"], second}
        assert {first["EdDSA"], second} <= set(keys.jwks.kids())

    on_sqlite(tmp_path, scenario)


def test_after_a_leak_a_key_that_gateways_know_signs(tmp_path: Path) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        clock = ManualClock()
        keys = await signing_keys(database, clock, MemoryRecorder(), algorithms=BOTH)
        clock.advance(LEAD)
        await keys.rotate(Origin())
        await keys.rotate(Origin(), retire_now=keys.access_signer.kid)  # the next key is new
        assert keys.access_signer.algorithm == "ES256"
        clock.advance(LEAD)
        assert keys.access_signer.algorithm == "EdDSA"

    on_sqlite(tmp_path, scenario)


def test_an_operator_who_rotates_all_day_does_not_outgrow_what_verifiers_take(tmp_path: Path) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        clock = ManualClock()
        keys = await signing_keys(database, clock, MemoryRecorder(), algorithms=BOTH, token_ttl=1e6, key_ttl=1e7)
        for _ in range((MOST_PUBLISHED - 4) // 2):
            clock.advance(LEAD)
            await keys.rotate(Origin())
        clock.advance(LEAD)
        with pytest.raises(Conflict, match="published until"):
            await keys.rotate(Origin())
        assert len(keys.jwks.kids()) == MOST_PUBLISHED
        clock.advance(1e7)
        await keys.maintain()
        await keys.maintain()
        assert len(keys.jwks.kids()) < 10

    on_sqlite(tmp_path, scenario)


def test_instances_that_start_together_have_one_ring(tmp_path: Path) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        clock, recorder = ManualClock(), MemoryRecorder()
        started = await asyncio.gather(*(signing_keys(database, clock, recorder, shared=True) for _ in range(4)))
        assert len({keys.document for keys in started}) == 1
        assert len({keys.access_signer.kid for keys in started}) == 1

    on_sqlite(tmp_path, scenario)


def test_what_one_instance_signs_the_others_verify_while_it_turns_the_ring(tmp_path: Path) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        clock = ManualClock()
        one, two = [await signing_keys(database, clock, MemoryRecorder(), shared=True) for _ in range(2)]
        for turn in range(4):
            clock.advance(LEAD / 4)
            for keys in (one, two):
                await keys.maintain()
            if turn < 3:
                continue
            before = two.access_signer.kid
            await one.rotate(Origin())
            assert one.access_signer.kid != before
            assert one.access_signer.kid in two.jwks.kids()  # before the other one has looked
            assert two.access_signer.kid == before
            assert before in one.jwks.kids()
            await two.maintain()
            assert two.access_signer.kid == one.access_signer.kid
            assert two.document == one.document

    on_sqlite(tmp_path, scenario)


def test_of_instances_that_turn_the_ring_on_schedule_together_one_does(tmp_path: Path) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        clock = ManualClock()
        instances = [await signing_keys(database, clock, MemoryRecorder(), shared=True) for _ in range(4)]
        first = instances[0].access_signer.kid
        clock.advance(LIFE)
        await asyncio.gather(*(keys.maintain() for keys in instances))
        await asyncio.gather(*(keys.maintain() for keys in instances))
        assert len({keys.document for keys in instances}) == 1
        assert len(instances[0].ring.keys) == 3
        assert instances[0].access_signer.kid != first

    on_sqlite(tmp_path, scenario)


def test_a_leaked_key_is_refused_by_every_instance_that_looked(tmp_path: Path) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        clock = ManualClock()
        one, two = [await signing_keys(database, clock, MemoryRecorder(), shared=True) for _ in range(2)]
        leaked = one.access_signer.kid
        await one.rotate(Origin(), retire_now=leaked)
        await two.maintain()
        assert leaked not in two.jwks.kids()
        with pytest.raises(Conflict):
            await two.rotate(Origin(), retire_now=leaked)

    on_sqlite(tmp_path, scenario)


def test_an_instance_that_lost_sight_of_the_others_signs_nothing(tmp_path: Path) -> None:
    async def scenario(database: SqliteDatabase) -> None:
        clock = ManualClock()
        keys = await signing_keys(database, clock, MemoryRecorder(), shared=True)
        clock.advance(CLOCK_SKEW / 2 + 1)
        with pytest.raises(Unavailable):
            _ = keys.access_signer
        await keys.maintain()
        assert keys.access_signer.kid

    on_sqlite(tmp_path, scenario)
