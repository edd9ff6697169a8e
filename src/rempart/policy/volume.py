"""How much each principal asked in the last minute: for the policy's `context.volume`, and to limit each person."""

from __future__ import annotations

from collections import OrderedDict

SLOTS = 12
SLOT_SECONDS = 5


class _Ring:
    __slots__ = ("counts", "slot", "total")

    def __init__(self, slot: int) -> None:
        self.counts = [0] * SLOTS
        self.slot = slot
        self.total = 0

    def turn(self, slot: int) -> None:
        """Forget what is older than a minute; a clock that went back counts in the present slot."""
        for passed in range(self.slot + 1, min(slot, self.slot + SLOTS) + 1):
            self.total -= self.counts[passed % SLOTS]
            self.counts[passed % SLOTS] = 0
        self.slot = max(self.slot, slot)


class Volume:
    """Twelve slots of five seconds for each of at most `size` principals; who was longest silent is forgotten first."""

    def __init__(self, size: int = 20_000) -> None:
        self._size = size
        self._rings: OrderedDict[str, _Ring] = OrderedDict()

    def count(self, principal: str, now: float, limit: int = 0) -> int:
        """Count one request; the number within the last minute, this one included. `now` is monotonic seconds.

        0, and nothing is counted, when that would be more than `limit` (0: there is none)."""
        ring = self._turned(principal, now)
        if limit and ring.total >= limit:
            return 0
        ring.counts[ring.slot % SLOTS] += 1
        ring.total += 1
        return ring.total

    def wait(self, principal: str, now: float, limit: int) -> int:
        """0 when one more stays within `limit` in a minute, else the seconds until it would. Counts nothing."""
        ring = self._turned(principal, now)
        if ring.total < limit:
            return 0
        left = ring.total
        for step in range(1, SLOTS + 1):
            left -= ring.counts[(ring.slot + step) % SLOTS]
            if left < limit:
                return max(1, int((ring.slot + step) * SLOT_SECONDS - now) + 1)
        return SLOTS * SLOT_SECONDS

    def _turned(self, principal: str, now: float) -> _Ring:
        slot = int(now) // SLOT_SECONDS
        ring = self._rings.get(principal)
        if ring is None:
            if len(self._rings) >= self._size:
                self._rings.popitem(last=False)
            ring = self._rings[principal] = _Ring(slot)
        else:
            self._rings.move_to_end(principal)
            if slot != ring.slot:
                ring.turn(slot)
        return ring
