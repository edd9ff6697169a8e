"""The keys that tokens are verified with: fresh, shared, and not fetched at a stranger's will."""

from __future__ import annotations

import asyncio

import pytest
from tests.sdk_support import KEY, Keys, token, verifier

from rempart.crypto.jose import SigningKey
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Unauthenticated, Unavailable
from rempart.sdk import TokenVerifier

NEW = SigningKey.generate("EdDSA")


def made(keys: Keys, clock: ManualClock) -> TokenVerifier:
    return verifier(keys, clock=clock, refresh_after=60, refuse_after=900, refetch_gap=2)


def signed(clock: ManualClock, key: SigningKey = KEY) -> str:
    return token("acc_1", key=key, now=clock.now())


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_keys_are_fetched_once_for_many() -> None:
    async def play() -> None:
        keys, clock = Keys(), ManualClock()
        clock.advance(100)
        it = made(keys, clock)
        all_of_them = await asyncio.gather(*(it.verify(signed(clock)) for _ in range(50)))
        assert {claims.subject for claims in all_of_them} == {"acc_1"}
        assert keys.fetched == 1

    asyncio.run(play())


def test_a_new_key_is_fetched_when_a_token_names_it() -> None:
    async def play() -> None:
        keys, clock = Keys(), ManualClock()
        clock.advance(100)
        it = made(keys, clock)
        await it.verify(signed(clock))
        keys.keys = (KEY, NEW)
        clock.advance(2)
        assert (await it.verify(signed(clock, NEW))).subject == "acc_1"
        assert keys.fetched == 2

    asyncio.run(play())


def test_unknown_keys_do_not_make_it_fetch_again_and_again() -> None:
    async def play() -> None:
        keys, clock = Keys(), ManualClock()
        clock.advance(100)
        it = made(keys, clock)
        await it.verify(signed(clock))
        for _ in range(100):
            with pytest.raises(Unauthenticated):
                await it.verify(signed(clock, NEW))
        assert keys.fetched == 1
        clock.advance(2)
        for _ in range(100):
            with pytest.raises(Unauthenticated):
                await it.verify(signed(clock, NEW))
        assert keys.fetched == 2

    asyncio.run(play())


def test_a_withdrawn_key_is_forgotten_in_the_background() -> None:
    async def play() -> None:
        keys, clock = Keys(), ManualClock()
        clock.advance(100)
        it = made(keys, clock)
        await it.verify(signed(clock))
        keys.keys = (NEW,)
        clock.advance(61)
        await it.verify(signed(clock))  # answered at once, with what is known
        await settle()
        clock.advance(2)
        with pytest.raises(Unauthenticated):
            await it.verify(signed(clock))

    asyncio.run(play())


def test_old_keys_are_trusted_for_a_while_and_then_no_more() -> None:
    async def play() -> None:
        keys, clock = Keys(), ManualClock()
        clock.advance(100)
        it = made(keys, clock)
        await it.verify(signed(clock))
        keys.down = True
        clock.advance(899)
        await it.verify(signed(clock))
        await settle()
        clock.advance(2)
        with pytest.raises(Unavailable) as refused:
            await it.verify(signed(clock))
        assert refused.value.code == "keys_unavailable"
        keys.down = False
        clock.advance(2)
        await it.verify(signed(clock))

    asyncio.run(play())


def test_no_keys_at_the_start_is_unavailable_and_then_recovers() -> None:
    async def play() -> None:
        keys, clock = Keys(), ManualClock()
        keys.down = True
        it = made(keys, clock)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await it.verify(signed(clock))
        assert keys.fetched == 1
        keys.down = False
        clock.advance(2)
        await it.verify(signed(clock))

    asyncio.run(play())


def test_a_caller_that_goes_away_does_not_take_the_keys_along() -> None:
    async def play() -> None:
        keys, clock = Keys(), ManualClock()
        it = made(keys, clock)
        first = asyncio.ensure_future(it.verify(signed(clock)))
        second = asyncio.ensure_future(it.verify(signed(clock)))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).subject == "acc_1"
        assert keys.fetched == 1

    asyncio.run(play())
