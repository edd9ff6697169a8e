"""Redis gone is never "no such record"; a Redis that forgets what it should keep is not used."""

from __future__ import annotations

import asyncio
import logging

import pytest
import redis
from tests.redis_server import fresh_redis, private_redis

from rempart.backends.redis_once import RedisOnce
from rempart.backends.redis_server import RedisServer
from rempart.backends.redis_sessions import RedisSessions
from rempart.backends.redis_throttle import RedisCounters
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import BadInput, Unavailable
from rempart.people.throttle import PAIR
from rempart.people.throttle_counters import Place

KEY = b"k" * 32
PLACES = [Place(PAIR, "ann n1", own=True)]


def test_gone_it_is_unavailable_for_everything_and_back_it_has_kept_all() -> None:
    async def scenario() -> None:
        clock = SystemClock()
        with private_redis() as private:
            async with fresh_redis(private.address) as server:
                once, sessions = RedisOnce(server, clock), RedisSessions(server)
                counters = RedisCounters(server, clock, "logins")
                assert await once.put("code", KEY, b"v", clock.now() + 60)
                await server.ready()
                private.stop()
                for work in (
                    server.ready(),
                    once.put("code", KEY, b"v", clock.now() + 60),
                    once.peek("code", KEY),
                    once.take("code", KEY),
                    once.swap("code", KEY, b"v", b"w"),
                    sessions.find(KEY, clock.now()),
                    sessions.by_id("ses_1", clock.now()),
                    sessions.touch(KEY, clock.now(), clock.now() + 60),
                    sessions.end("ses_1"),
                    sessions.of_account("usr_1", clock.now()),
                    counters.start(PLACES),
                    counters.finish(PLACES, failed=True, succeeded=False),
                ):
                    with pytest.raises(Unavailable) as refusal:
                        await work
                    assert refusal.value.code == "store_unavailable"
                private.start()
                taken = await asyncio.gather(*(once.take("code", KEY) for _ in range(8)))
                assert [value for value in taken if value is not None] == [b"v"]

    asyncio.run(scenario())


def test_a_redis_that_hangs_is_unavailable_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rempart.backends.redis_server._SECONDS", 0.2)

    async def scenario() -> None:
        with private_redis() as private:
            async with fresh_redis(private.address) as server:
                once = RedisOnce(server, SystemClock())
                assert await once.peek("code", KEY) is None
                with redis.Redis.from_url(private.address) as client:
                    client.client_pause(1500)
                with pytest.raises(Unavailable):
                    await once.take("code", KEY)

    asyncio.run(scenario())


def test_one_that_may_drop_living_records_is_refused() -> None:
    async def scenario() -> None:
        with private_redis() as private:
            async with fresh_redis(private.address) as server:
                with redis.Redis.from_url(private.address) as client:
                    client.config_set("maxmemory-policy", "allkeys-lru")
                    await server.ready()  # no limit: nothing is dropped
                    client.config_set("maxmemory", "100mb")
                    with pytest.raises(BadInput, match="allkeys-lru"):
                        await server.ready()
                    client.config_set("maxmemory-policy", "noeviction")
                    await server.ready()

    asyncio.run(scenario())


def test_one_without_append_only_file_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        with private_redis() as private:
            async with fresh_redis(private.address) as server:
                await server.ready()
                assert not caplog.records
                with redis.Redis.from_url(private.address) as client:
                    client.config_set("appendonly", "no")
                with caplog.at_level(logging.WARNING):
                    await server.ready()
                assert "append-only" in caplog.text

    asyncio.run(scenario())


def test_a_full_redis_refuses_and_takes_nothing_for_new() -> None:
    async def scenario() -> None:
        clock = SystemClock()
        with private_redis() as private:
            async with fresh_redis(private.address) as server:
                once = RedisOnce(server, clock)
                assert await once.put("jti", KEY, b"", clock.now() + 60)
                with redis.Redis.from_url(private.address) as client:
                    client.config_set("maxmemory", "1")
                assert not await once.put("jti", KEY, b"", clock.now() + 60)
                with pytest.raises(Unavailable):
                    await once.put("jti", b"n" * 32, b"", clock.now() + 60)

    asyncio.run(scenario())


def test_an_address_without_server_or_with_a_wrong_password_is_unavailable() -> None:
    async def scenario() -> None:
        with private_redis() as private:
            with redis.Redis.from_url(private.address) as client:
                client.config_set("requirepass", "right")
            for address in ("unix:///nowhere/redis.sock", f"unix://:wrong@{private.directory}/redis.sock"):
                server = RedisServer(address)
                with pytest.raises(Unavailable) as refusal:
                    await server.ready()
                assert "wrong" not in str(refusal.value)
                await server.close()
            server = RedisServer(f"unix://:right@{private.directory}/redis.sock")
            await server.ready()
            await server.close()
            with redis.Redis.from_url(f"unix://:right@{private.directory}/redis.sock") as client:
                client.config_set("requirepass", "")

    asyncio.run(scenario())
