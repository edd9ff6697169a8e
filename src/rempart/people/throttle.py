"""Slowing down whoever guesses passwords, and not the person they guess at.

Each attempt is counted in up to three places: the account from this network, the network over all accounts, and the
account over all unknown networks. Past a free allowance each further failure doubles the wait. Someone on a known
device is counted by that device only, someone on a network that the account logged in from before by that pair only;
so an attacker elsewhere never locks the owner out (OWASP's "device cookies"). Attempts that are refused are not
counted and not hashed, so hammering doesn't prolong the wait.

State is bounded: an entry is forgotten once it has nothing to remember, else the longest untouched one goes first.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from rempart.kernel.clock import Clock
from rempart.kernel.errors import Throttled

MAX_ENTRIES = 32_768  # per kind of counter, about 150 bytes each


@dataclass(frozen=True)
class Allowance:
    """`free` failures cost nothing, the next `first` seconds, then twice as long each, at most `longest`.

    One failure is forgiven every `forgiven_after` seconds. `at_once` attempts may run side by side.
    """

    free: int
    first: float
    longest: float
    forgiven_after: float
    at_once: int


PAIR = Allowance(free=5, first=1, longest=900, forgiven_after=3600, at_once=16)
DEVICE = Allowance(free=10, first=1, longest=300, forgiven_after=300, at_once=16)
ACCOUNT = Allowance(free=100, first=1, longest=300, forgiven_after=120, at_once=64)
NETWORK = Allowance(free=100, first=1, longest=60, forgiven_after=10, at_once=512)


@dataclass(slots=True)
class _Entry:
    failures: float = 0.0
    updated: float = 0.0
    blocked_until: float = 0.0
    running: int = 0


class _Counter:
    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, key: str, now: float) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(updated=now)
            if len(self._entries) > MAX_ENTRIES:
                self._entries.popitem(last=False)
        entry.failures = max(0.0, entry.failures - (now - entry.updated) / self.allowance.forgiven_after)
        entry.updated = now
        return entry

    def wait(self, key: str, now: float) -> float:
        """Seconds until the next attempt may start; 0 for now."""
        if key not in self._entries:
            return 0.0
        entry = self.entry(key, now)
        if entry.blocked_until > now:
            return entry.blocked_until - now
        if entry.running >= (self.allowance.at_once if entry.failures < 1 else max(1, self._left(entry))):
            return 1.0
        return 0.0

    def _left(self, entry: _Entry) -> int:
        return self.allowance.free - math.ceil(entry.failures)

    def start(self, key: str, now: float) -> None:
        self.entry(key, now).running += 1
        self._entries.move_to_end(key)

    def finish(self, key: str, now: float, *, failed: bool, forget: bool) -> None:
        entry = self.entry(key, now)
        entry.running = max(0, entry.running - 1)
        if failed:
            entry.failures += 1
            beyond = math.ceil(entry.failures) - self.allowance.free
            if beyond > 0:
                pause = min(self.allowance.longest, self.allowance.first * 2.0 ** min(beyond - 1, 30))
                entry.blocked_until = max(entry.blocked_until, now + pause)
        elif forget:
            entry.failures = entry.blocked_until = 0.0
        if entry.failures <= 0 and entry.running == 0:
            del self._entries[key]


class Attempt:
    """One login under way; call exactly one of `succeeded`, `failed` and `abandoned`."""

    def __init__(self, clock: Clock, counted: list[tuple[_Counter, str, bool]]) -> None:
        self._clock = clock
        self._counted = counted

    def succeeded(self) -> None:
        self._finish(failed=False, forget=True)

    def failed(self) -> None:
        self._finish(failed=True, forget=False)

    def abandoned(self) -> None:
        """It was never judged: the pool was full, or the record was down."""
        self._finish(failed=False, forget=False)

    def _finish(self, *, failed: bool, forget: bool) -> None:
        now = self._clock.monotonic()
        for counter, key, own in self._counted:
            counter.finish(key, now, failed=failed, forget=forget and own)
        self._counted = []


class Throttle:
    """In memory, for one process; use it from one thread."""

    def __init__(self, clock: Clock, *, enabled: bool = True) -> None:
        self._clock = clock
        self._enabled = enabled
        self._pairs, self._devices = _Counter(PAIR), _Counter(DEVICE)
        self._accounts, self._networks = _Counter(ACCOUNT), _Counter(NETWORK)

    def begin(self, account: str, network: str, *, device: str | None = None, known_network: bool = False) -> Attempt:
        """`account` stands for the e-mail address that was typed, whether or not it has an account.

        Raises Throttled `login_throttled`, the same for every reason.
        """
        if not self._enabled:
            return Attempt(self._clock, [])
        pair = (self._pairs, f"{account} {network}", True)
        if device is not None:
            counted = [(self._devices, device, True)]
        elif known_network:
            counted = [pair]
        else:
            # A success washes only the pair clean. The network's other users may include the attacker; and were the
            # account's failures forgiven by its owner's login, who watches from afar could tell it from one that
            # doesn't exist.
            counted = [pair, (self._networks, network, False), (self._accounts, account, False)]
        now = self._clock.monotonic()
        wait = max(counter.wait(key, now) for counter, key, _ in counted)
        if wait > 0:
            raise Throttled(
                "login_throttled",
                "too many failed logins: wait before the next one",
                "wait as long as Retry-After says",
                retry_after=math.ceil(wait),
            )
        for counter, key, _ in counted:
            counter.start(key, now)
        return Attempt(self._clock, counted)

    @property
    def entries(self) -> int:
        return sum(map(len, (self._pairs, self._devices, self._accounts, self._networks)))
