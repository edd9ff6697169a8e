"""Sessions in Redis: implements `people.sessions.ports.SessionStore`.

Three kinds of keys: `session:HASH` the session, `session-id:ID` its token's hash, `sessions-of:ACCOUNT` the account's
ids by their age. Each operation is one script. What lives is decided by the caller's clock, Redis only tidies up.
"""

from __future__ import annotations

from collections.abc import Sequence

from rempart.people.sessions.model import Stored

from .redis_server import PREFIX, RedisServer, Script, milliseconds

_KEYS = f"""
local function session(hash) return '{PREFIX}session:' .. hash end
local function named(id) return '{PREFIX}session-id:' .. id end
local function all_of(account) return '{PREFIX}sessions-of:' .. account end
local function remove(id, account)
  local hash = redis.call('GET', named(id))
  if hash then redis.call('DEL', session(hash), named(id)) end
  redis.call('ZREM', all_of(account), id)
  return hash
end
local function lives(account, ttl)
  if redis.call('PTTL', all_of(account)) < tonumber(ttl) then redis.call('PEXPIRE', all_of(account), ttl) end
end
local function write(hash, id, account, created, seen, ends, sealed, ttl)
  redis.call('HSET', session(hash), 'hash', hash, 'id', id, 'account', account, 'created', created, 'seen', seen,
    'ends', ends, 'sealed', sealed)
  redis.call('PEXPIRE', session(hash), ttl)
  redis.call('SET', named(id), hash, 'PX', ttl)
  redis.call('ZADD', all_of(account), created, id)
  lives(account, ttl)
end
local function fields(hash)
  local found = redis.call('HMGET', session(hash), 'hash', 'id', 'account', 'created', 'seen', 'ends', 'sealed')
  return found[1] and found
end
local function of_account(account, now)
  local living = {{}}
  for _, id in ipairs(redis.call('ZREVRANGE', all_of(account), 0, -1)) do
    local hash = redis.call('GET', named(id))
    local found = hash and fields(hash)
    if not found then redis.call('ZREM', all_of(account), id)
    elseif tonumber(found[6]) > tonumber(now) then table.insert(living, found) end
  end
  return living
end
"""
_OPEN = (
    _KEYS
    + """
write(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8])
local ended = {}
for place, found in ipairs(of_account(ARGV[3], ARGV[4])) do
  if place > tonumber(ARGV[9]) then
    remove(found[2], ARGV[3])
    table.insert(ended, found[2])
  end
end
return ended
"""
)
_FIND = _KEYS + "return fields(ARGV[1])"
_BY_ID = _KEYS + "local hash = redis.call('GET', named(ARGV[1])) return hash and fields(hash)"
_TOUCH = (
    _KEYS
    + """
local found = fields(ARGV[1])
if not found then return 0 end
redis.call('HSET', session(ARGV[1]), 'seen', ARGV[2], 'ends', ARGV[3])
redis.call('PEXPIRE', session(ARGV[1]), ARGV[4])
redis.call('PEXPIRE', named(found[2]), ARGV[4])
lives(found[3], ARGV[4])
return 1
"""
)
_REPLACE = (
    _KEYS
    + """
local found = fields(ARGV[9])
if not found or found[2] ~= ARGV[2] then return 0 end
redis.call('DEL', session(ARGV[9]))
write(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8])
return 1
"""
)
_END = (
    _KEYS
    + """
local hash = redis.call('GET', named(ARGV[1]))
local found = hash and fields(hash)
if not found then return 0 end
remove(ARGV[1], found[3])
return 1
"""
)
_OF_ACCOUNT = _KEYS + "return of_account(ARGV[1], ARGV[2])"


class RedisSessions:
    def __init__(self, server: RedisServer) -> None:
        self._open, self._find, self._by_id = Script(server, _OPEN), Script(server, _FIND), Script(server, _BY_ID)
        self._touch, self._replace = Script(server, _TOUCH), Script(server, _REPLACE)
        self._end, self._of_account = Script(server, _END), Script(server, _OF_ACCOUNT)

    async def open(self, session: Stored, *, keep: int) -> Sequence[str]:
        return [name.decode() for name in await self._open([], *_written(session), keep)]

    async def find(self, token_hash: bytes, now: float) -> Stored | None:
        return _living(await self._find([], token_hash.hex()), now)

    async def by_id(self, session_id: str, now: float) -> Stored | None:
        return _living(await self._by_id([], session_id), now)

    async def touch(self, token_hash: bytes, seen_at: float, ends_at: float) -> bool:
        ttl = milliseconds(ends_at - seen_at)
        return bool(await self._touch([], token_hash.hex(), repr(seen_at), repr(ends_at), ttl))

    async def replace(self, token_hash: bytes, session: Stored) -> bool:
        return bool(await self._replace([], *_written(session), token_hash.hex()))

    async def end(self, session_id: str) -> bool:
        return bool(await self._end([], session_id))

    async def of_account(self, account_id: str, now: float) -> Sequence[Stored]:
        return [_read(found) for found in await self._of_account([], account_id, repr(now))]

    async def sweep(self, now: float) -> int:
        """Redis does it."""
        return 0


def _written(session: Stored) -> tuple[str | bytes | float, ...]:
    return (
        *(session.token_hash.hex(), session.id, session.account_id),
        *(repr(session.created_at), repr(session.seen_at), repr(session.ends_at), session.sealed),
        milliseconds(session.ends_at - session.seen_at),
    )


def _living(found: list[bytes] | None, now: float) -> Stored | None:
    stored = _read(found) if found else None
    return stored if stored is not None and stored.ends_at > now else None


def _read(found: list[bytes]) -> Stored:
    token_hash, session_id, account_id, created_at, seen_at, ends_at, sealed = found
    return Stored(
        bytes.fromhex(token_hash.decode()),
        session_id.decode(),
        account_id.decode(),
        float(created_at),
        float(seen_at),
        float(ends_at),
        sealed,
    )
