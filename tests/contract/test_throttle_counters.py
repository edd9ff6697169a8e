"""Counting failures in Redis, for all instances, is counting them as one process does in memory."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.people_stores import redis_for, redis_server

from rempart.backends.redis_throttle import RedisCounters
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Throttled
from rempart.people.oauth.guesses import SECRET, SecretGuesses
from rempart.people.throttle import ACCOUNT, DEVICE, NETWORK, PAIR, Throttle
from rempart.people.throttle_counters import Counters, LocalCounters, Place

__all__ = ["redis_server"]  # a fixture
PLACES = [
    [Place(PAIR, f"a{account} n{network}", own=True), Place(NETWORK, f"n{network}", own=False),
     Place(ACCOUNT, f"a{account}", own=False)]
    for account in range(2) for network in range(3)
] + [[Place(DEVICE, "d", own=True)]]  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_both_say_the_same(seed: int, request: pytest.FixtureRequest) -> None:
    async def scenario() -> None:
        chance, clock = random.Random(seed), ManualClock()
        async with redis_for(request) as server:
            stores: list[Counters] = [LocalCounters(clock), RedisCounters(server, clock, "logins")]
            running: list[list[Place]] = []
            for _ in range(300):
                step = chance.random()
                if step < 0.1 or (step < 0.2 and not running):  # what runs is forgotten after a minute
                    clock.advance(chance.choice([0.5, 1.0, 7.0]) * (1 if running else 20))
                elif step < 0.6 or not running:
                    places = chance.choice(PLACES)
                    waits = [await counters.start(places) for counters in stores]
                    assert waits[0] == pytest.approx(waits[1], abs=1e-3)
                    if waits[0] == 0:
                        running.append(places)
                else:
                    places = running.pop(chance.randrange(len(running)))
                    failed, succeeded = chance.choice([(True, False)] * 6 + [(False, True), (False, False)])
                    for counters in stores:
                        await counters.finish(places, failed=failed, succeeded=succeeded)

    asyncio.run(scenario())


def test_two_instances_count_together(request: pytest.FixtureRequest) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with redis_for(request) as server:
            one, two = (Throttle(clock, RedisCounters(server, clock, "logins")) for _ in range(2))
            for number in range(PAIR.free + 1):
                await (await (one, two)[number % 2].begin("ann", "n1")).failed()
            for throttle in (one, two):
                with pytest.raises(Throttled):
                    await throttle.begin("ann", "n1")
            other = Throttle(clock, RedisCounters(server, clock, "codes"))
            await (await other.begin("ann", "n1")).abandoned()

    asyncio.run(scenario())


def test_wrong_secrets_of_a_client_count_at_both_instances(request: pytest.FixtureRequest) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with redis_for(request) as server:
            one, two = (SecretGuesses(RedisCounters(server, clock, "client-secrets")) for _ in range(2))
            for number in range(SECRET.free + 1):
                await (await (one, two)[number % 2].begin("shop", "n1")).failed()
            for guesses in (one, two):
                with pytest.raises(Throttled):
                    await guesses.begin("shop", "n1")
                await (await guesses.begin("shop", "n2")).succeeded()
            clock.advance(SECRET.first)
            await (await two.begin("shop", "n1")).succeeded()

    asyncio.run(scenario())


def test_guesses_side_by_side_at_two_instances_are_counted_before_they_fail(request: pytest.FixtureRequest) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with redis_for(request) as server:
            instances = [Throttle(clock, RedisCounters(server, clock, "logins")) for _ in range(2)]
            begun = await asyncio.gather(
                *(instances[n % 2].begin("ann", "n1") for n in range(4 * PAIR.at_once)), return_exceptions=True
            )
            assert sum(not isinstance(one, BaseException) for one in begun) == PAIR.at_once

    asyncio.run(scenario())


def test_what_a_dead_instance_had_under_way_blocks_nobody_for_long(request: pytest.FixtureRequest) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with redis_for(request) as server:
            for _ in range(PAIR.at_once):
                await Throttle(clock, RedisCounters(server, clock, "logins")).begin("ann", "n1")
            throttle = Throttle(clock, RedisCounters(server, clock, "logins"))
            with pytest.raises(Throttled):
                await throttle.begin("ann", "n1")
            clock.advance(61)
            await (await throttle.begin("ann", "n1")).succeeded()

    asyncio.run(scenario())
