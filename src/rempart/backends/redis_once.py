"""Once-records in Redis: implements `people.ports.OnceStore`. A value has its end before it, as a big-endian double:
the service's clock decides what lives, Redis' own expiry only tidies up.
"""

from __future__ import annotations

import struct

from rempart.kernel.clock import Clock

from .redis_server import PREFIX, RedisServer, Script, milliseconds

_LIVING = """
local held = redis.call('GET', KEYS[1])
local living = held and struct.unpack('>d', held) > tonumber(ARGV[1])
"""
_PUT = _LIVING + "if living then return 0 end redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1"
_SWAP = (
    _LIVING
    + """
if not living or string.sub(held, 9) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], string.sub(held, 1, 8) .. ARGV[3], 'KEEPTTL') return 1
"""
)


class RedisOnce:
    def __init__(self, server: RedisServer, clock: Clock) -> None:
        self._server, self._clock = server, clock
        self._put, self._swap = Script(server, _PUT), Script(server, _SWAP)

    async def put(self, kind: str, key: bytes, value: bytes, expires_at: float) -> bool:
        now = self._clock.now()
        held = struct.pack(">d", expires_at) + value
        return bool(await self._put([_name(kind, key)], repr(now), held, milliseconds(expires_at - now)))

    async def peek(self, kind: str, key: bytes) -> bytes | None:
        return self._living(await self._server.answer(self._server.client.get(_name(kind, key))))

    async def take(self, kind: str, key: bytes) -> bytes | None:
        return self._living(await self._server.answer(self._server.client.getdel(_name(kind, key))))

    async def swap(self, kind: str, key: bytes, old: bytes, new: bytes) -> bool:
        return bool(await self._swap([_name(kind, key)], repr(self._clock.now()), old, new))

    async def sweep(self, before: float) -> int:
        """Redis does it."""
        return 0

    def _living(self, held: bytes | str | None) -> bytes | None:
        if not isinstance(held, bytes) or struct.unpack_from(">d", held)[0] <= self._clock.now():
            return None
        return held[8:]


def _name(kind: str, key: bytes) -> str:
    return f"{PREFIX}once:{kind}:{key.hex()}"
