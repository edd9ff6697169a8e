"""One Redis, for what is short-lived and shared by instances. Not a cluster: scripts touch several keys at once.

Nothing is tried again here: an answer that did not come is Unavailable, and never "there is no such record".
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from rempart.kernel.errors import BadInput, Unavailable

T = TypeVar("T")
PREFIX = "rempart:people:"
_CONNECTIONS = 32
_SECONDS = 2.0  # for an answer; a healthy Redis needs less than one thousandth of it
_log = logging.getLogger(__name__)


class RedisServer:
    """`address` is `redis://`, `rediss://` (TLS) or `unix://`."""

    def __init__(self, address: str) -> None:
        pool = BlockingConnectionPool.from_url(
            address,
            max_connections=_CONNECTIONS,
            timeout=_SECONDS,
            socket_timeout=_SECONDS,
            socket_connect_timeout=_SECONDS,
            retry=Retry(NoBackoff(), 0),
            client_name="rempart-people",
        )
        self.client: Redis = Redis.from_pool(pool)

    async def ready(self) -> None:
        """Raises Unavailable, and BadInput `bad_settings` for a Redis that forgets what it should keep."""
        memory: dict[str, Any] = await self.answer(self.client.info("memory"))
        policy = memory.get("maxmemory_policy", "noeviction")
        if memory.get("maxmemory") and policy != "noeviction":
            raise BadInput(
                "bad_settings",
                f"Redis may drop living records when its memory is full (maxmemory-policy {policy})",
                "set maxmemory-policy noeviction, and give what only caches a Redis of its own",
            )
        persistence: dict[str, Any] = await self.answer(self.client.info("persistence"))
        if not persistence.get("aof_enabled"):
            _log.warning("Redis keeps no append-only file: when it restarts, everybody has to sign in again")

    async def answer(self, command: Awaitable[T]) -> T:
        try:
            return await command
        except (TimeoutError, RedisError, OSError) as error:
            raise Unavailable(
                "store_unavailable", f"Redis failed: {type(error).__name__}", "see that Redis runs and can be reached"
            ) from None

    async def close(self) -> None:
        await self.client.aclose()


class Script:
    """A Lua script: atomic in Redis."""

    def __init__(self, server: RedisServer, text: str) -> None:
        self._server, self._script = server, server.client.register_script(text)

    async def __call__(self, keys: Sequence[str], *arguments: str | bytes | float) -> Any:
        return await self._server.answer(cast(Awaitable[Any], self._script(keys=list(keys), args=list(arguments))))


def milliseconds(seconds: float) -> int:
    """A time to live: at least one, since Redis refuses none."""
    return max(1, round(seconds * 1000))
