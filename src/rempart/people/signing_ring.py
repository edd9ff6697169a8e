"""The ring of signing keys: next → active → verify-only → retired, so that rotation refuses nothing.

Every algorithm in use has an active key and a next one. `next` is published before it signs, for longer than anyone
caches the key set. A key that stopped signing is published until its longest token has expired. Only `next` and
`active` keep their private part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from rempart.crypto.jose import ALGORITHMS, SigningKey
from rempart.kernel.errors import Conflict, NotFound

CLOCK_SKEW = 60  # seconds that a verifier's clock may be behind
MOST_PUBLISHED = 48  # keys; verifiers bound the key sets that they take
MOST_RETIRED = 32  # keys that are still listed; each turn records the whole ring, twice
Pair = tuple[SigningKey, SigningKey]  # the one that signs, and the next


class KeyState(StrEnum):
    NEXT = "next"
    ACTIVE = "active"
    VERIFY_ONLY = "verify-only"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class RingKey:
    """`published_at` 0 means: since the first key set there was, so whoever has a key set has this key.

    `longest_ttl` is the longest life, in seconds, of a token that it signed.
    """

    kid: str
    algorithm: str
    state: KeyState
    created_at: float
    published_at: float
    longest_ttl: float
    activated_at: float | None = None
    retires_at: float | None = None
    retired_for: str = ""
    public_jwk: dict[str, Any] = field(default_factory=dict)
    private_jwk: dict[str, Any] | None = field(default=None, repr=False)

    def public(self) -> dict[str, Any]:
        return {
            "kid": self.kid,
            "algorithm": self.algorithm,
            "state": str(self.state),
            "created_at": self.created_at,
            "activated_at": self.activated_at,
            "retires_at": self.retires_at,
            "retired_for": self.retired_for,
        }


@dataclass(frozen=True, slots=True)
class Ring:
    """An immutable ring: every change gives a new one. Of each algorithm exactly one key is active and one is next."""

    keys: tuple[RingKey, ...]

    @staticmethod
    def first(pairs: Sequence[Pair], *, now: float, ttl: float) -> Ring:
        return Ring(tuple(key for pair in pairs for key in _started(pair, now=now, published_at=0, ttl=ttl)))

    @property
    def algorithms(self) -> frozenset[str]:
        return frozenset(key.algorithm for key in self.keys if key.state is KeyState.ACTIVE)

    def active(self, algorithm: str) -> RingKey:
        return self._only(KeyState.ACTIVE, algorithm)

    def next(self, algorithm: str) -> RingKey:
        return self._only(KeyState.NEXT, algorithm)

    def _only(self, state: KeyState, algorithm: str) -> RingKey:
        return next(key for key in self.keys if key.state is state and key.algorithm == algorithm)

    def published(self) -> Sequence[RingKey]:
        """Every key that a verifier needs, the active ones first."""
        order = (KeyState.ACTIVE, KeyState.NEXT, KeyState.VERIFY_ONLY)
        needed = [key for key in self.keys if key.state in order]
        return sorted(needed, key=lambda key: (order.index(key.state), ALGORITHMS.index(key.algorithm)))

    def rotate(self, fresh: Mapping[str, SigningKey], *, now: float, lead: float, ttl: float) -> Ring:
        """`next` of each of these algorithms signs from now on, `fresh` is next.

        Conflict `next_key_too_young` before `lead` seconds are over, `too_many_keys`.
        """
        young = max(self.next(algorithm).published_at for algorithm in fresh) + lead - now
        if young > 0:
            raise Conflict(
                "next_key_too_young",
                f"the next key was published {lead - young:.0f} s ago and may not be known everywhere yet",
                f"wait {young:.0f} s; for a leaked key use --retire-now",
            )
        if not self.room_for(len(fresh)):
            raise Conflict(
                "too_many_keys",
                f"{len(self.published())} keys are published until the last token that they signed has expired",
                "wait; for a leaked key use --retire-now",
            )
        return self._turned(fresh, now=now, ttl=ttl)

    def room_for(self, more: int) -> bool:
        return len(self.published()) + more <= MOST_PUBLISHED

    def find(self, kid: str) -> RingKey:
        """NotFound `no_such_key`, Conflict `key_retired`."""
        known = next((key for key in self.keys if key.kid == kid), None)
        if known is None:
            raise NotFound("no_such_key", f"there is no key {kid[:64]!r}", "see `rempart keys list`")
        if known.state is KeyState.RETIRED:
            raise Conflict("key_retired", "this key is retired already")
        return known

    def retire(self, kid: str, fresh: SigningKey, *, now: float, ttl: float) -> Ring:
        """For a leak: tokens of this key are refused from now on. `fresh` is of its algorithm. Raises as `find`."""
        known = self.find(kid)
        if known.state is KeyState.ACTIVE:
            ring = self._turned({known.algorithm: fresh}, now=now, ttl=ttl)
        elif known.state is KeyState.NEXT:
            ring = Ring((*self.keys, _new(fresh, now=now, published_at=now)))
        else:
            ring = self
        return Ring(tuple(_retired(key, now, "leak") if key.kid == kid else key for key in ring.keys))

    def with_algorithms(self, wanted: Sequence[str], pairs: Sequence[Pair], *, now: float, ttl: float) -> Ring:
        """With the `pairs` of what is missing. What isn't wanted signs no more, and verifies as long as it must."""
        kept = []
        for key in self.keys:
            if key.algorithm not in wanted and key.state is KeyState.ACTIVE:
                key = _verifying(key, now=now, ttl=ttl)
            if key.algorithm in wanted or key.state is not KeyState.NEXT:  # which signed nothing
                kept.append(key)
        return Ring((*kept, *(key for pair in pairs for key in _started(pair, now=now, published_at=now, ttl=ttl))))

    def settle(self, *, now: float, ttl: float, remember: float) -> Ring:
        """Retire what has no token left, forget retired keys after `remember` seconds and all but the last ones, note a
        longer token life."""
        kept = []
        for key in self.keys:
            if key.state is KeyState.VERIFY_ONLY and (key.retires_at or 0) <= now:
                key = _retired(key, now, "age")
            if key.state is KeyState.RETIRED and (key.retires_at or 0) + remember <= now:
                continue
            if key.state is KeyState.ACTIVE and key.longest_ttl < ttl:
                key = replace(key, longest_ttl=ttl)
            kept.append(key)
        retired = sorted((key for key in kept if key.state is KeyState.RETIRED), key=lambda key: key.retires_at or 0)
        forgotten = {key.kid for key in retired[:-MOST_RETIRED]}
        return Ring(tuple(key for key in kept if key.kid not in forgotten))

    def _turned(self, fresh: Mapping[str, SigningKey], *, now: float, ttl: float) -> Ring:
        turned = []
        for key in self.keys:
            if key.algorithm in fresh and key.state is KeyState.ACTIVE:
                key = _verifying(key, now=now, ttl=ttl)
            elif key.algorithm in fresh and key.state is KeyState.NEXT:
                key = _signing(key, now=now, ttl=ttl)
            turned.append(key)
        return Ring((*turned, *(_new(key, now=now, published_at=now) for key in fresh.values())))


def _started(pair: Pair, *, now: float, published_at: float, ttl: float) -> tuple[RingKey, RingKey]:
    active, following = (_new(key, now=now, published_at=published_at) for key in pair)
    return _signing(active, now=now, ttl=ttl), following


def _signing(key: RingKey, *, now: float, ttl: float) -> RingKey:
    return replace(key, state=KeyState.ACTIVE, activated_at=now, longest_ttl=ttl)


def _verifying(key: RingKey, *, now: float, ttl: float) -> RingKey:
    end = now + max(key.longest_ttl, ttl) + CLOCK_SKEW
    return replace(key, state=KeyState.VERIFY_ONLY, retires_at=end, private_jwk=None)


def _new(key: SigningKey, *, now: float, published_at: float) -> RingKey:
    return RingKey(
        kid=key.kid,
        algorithm=key.algorithm,
        state=KeyState.NEXT,
        created_at=now,
        published_at=published_at,
        longest_ttl=0,
        public_jwk=key.public_jwk(),
        private_jwk=key.dump(),
    )


def _retired(key: RingKey, now: float, why: str) -> RingKey:
    return replace(key, state=KeyState.RETIRED, retires_at=now, retired_for=why, private_jwk=None)
