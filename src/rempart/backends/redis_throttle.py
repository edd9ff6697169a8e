"""Failures counted in Redis, for all instances together: implements `people.throttle_counters.Counters`.

The same arithmetic as `LocalCounters`, in one script, by the wall clock of the instance that asks. What an instance
had under way when it died is forgotten after a minute; Redis drops an entry that has nothing more to remember.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from rempart.kernel.clock import Clock
from rempart.people.throttle_counters import Place

from .redis_server import PREFIX, RedisServer, Script

_LEASE = 60  # seconds
_PER_PLACE = 6
_ENTRIES = f"""
local now = tonumber(ARGV[1])
local function rule(place, number) return tonumber(ARGV[1 + (place - 1) * {_PER_PLACE} + number]) end
local function load(place)
  local held = redis.call('HMGET', KEYS[place], 'failures', 'updated', 'blocked', 'running')
  if not held[1] then return nil end
  local updated = tonumber(held[2])
  local e = {{blocked = tonumber(held[3]), running = tonumber(held[4])}}
  e.failures = math.max(0, tonumber(held[1]) - math.max(0, now - updated) / rule(place, 4))
  if now - updated > {_LEASE} then e.running = 0 end
  return e
end
local function save(place, e)
  if e.failures <= 0 and e.running == 0 then redis.call('DEL', KEYS[place]) return end
  redis.call('HSET', KEYS[place], 'failures', string.format('%.17g', e.failures), 'updated', ARGV[1],
    'blocked', string.format('%.17g', e.blocked), 'running', e.running)
  local seconds = math.max(e.failures * rule(place, 4), e.blocked - now, 0) + {_LEASE}
  redis.call('PEXPIRE', KEYS[place], math.ceil(seconds * 1000))
end
local function new() return {{failures = 0, blocked = 0, running = 0}} end
"""
_START = (
    _ENTRIES
    + """
local wait, entries = 0, {}
for place = 1, #KEYS do
  local e = load(place)
  if e then
    if e.blocked > now then wait = math.max(wait, e.blocked - now)
    else
      local most = rule(place, 5)
      if e.failures >= 1 then most = math.max(1, rule(place, 1) - math.ceil(e.failures)) end
      if e.running >= most then wait = math.max(wait, 1) end
    end
  end
  entries[place] = e or new()
end
if wait > 0 then return string.format('%.17g', wait) end
for place, e in ipairs(entries) do
  e.running = e.running + 1
  save(place, e)
end
return '0'
"""
)
_FINISH = (
    _ENTRIES
    + f"""
local outcome = ARGV[2 + #KEYS * {_PER_PLACE}]
for place = 1, #KEYS do
  local e = load(place) or new()
  e.running = math.max(0, e.running - 1)
  if outcome == 'failed' then
    e.failures = e.failures + 1
    local beyond = math.ceil(e.failures) - rule(place, 1)
    if beyond > 0 then
      local pause = math.min(rule(place, 3), rule(place, 2) * 2 ^ math.min(beyond - 1, 30))
      e.blocked = math.max(e.blocked, now + pause)
    end
  elseif outcome == 'succeeded' and rule(place, 6) == 1 then e.failures = 0 e.blocked = 0
  end
  save(place, e)
end
return 1
"""
)


class RedisCounters:
    """`name` keeps the counters of one purpose apart from another's."""

    def __init__(self, server: RedisServer, clock: Clock, name: str) -> None:
        self._clock, self._name = clock, name
        self._start, self._finish = Script(server, _START), Script(server, _FINISH)

    async def start(self, places: Sequence[Place]) -> float:
        return float(await self._start(self._keys(places), repr(self._clock.now()), *_rules(places)))

    async def finish(self, places: Sequence[Place], *, failed: bool, succeeded: bool) -> None:
        outcome = "failed" if failed else "succeeded" if succeeded else "abandoned"
        await self._finish(self._keys(places), repr(self._clock.now()), *_rules(places), outcome)

    @property
    def entries(self) -> int:
        return 0

    def _keys(self, places: Sequence[Place]) -> list[str]:
        return [
            f"{PREFIX}{self._name}:{place.allowance.kind}:{hashlib.sha256(place.key.encode()).hexdigest()}"
            for place in places
        ]


def _rules(places: Sequence[Place]) -> list[float]:
    found: list[float] = []
    for place in places:
        rule = place.allowance
        found += (rule.free, rule.first, rule.longest, rule.forgiven_after, rule.at_once, int(place.own))
    return found
