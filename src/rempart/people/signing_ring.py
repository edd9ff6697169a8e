"""The ring of signing keys: next → active → verify-only → retired, so that rotation refuses nothing.

`next` is published before it signs, for longer than anyone caches the key set. A key that stopped signing is published
until its longest token has expired. Only `next` and `active` keep their private part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from rempart.crypto.jose import SigningKey
from rempart.kernel.errors import Conflict, NotFound

CLOCK_SKEW = 60  # seconds that a verifier's clock may be behind


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
    """An immutable ring: every change gives a new one. Exactly one key is active and one is next."""

    keys: tuple[RingKey, ...]

    @staticmethod
    def first(active: SigningKey, following: SigningKey, *, now: float, ttl: float) -> Ring:
        one = _new(active, now=now, published_at=0, ttl=ttl)
        return Ring((replace(one, state=KeyState.ACTIVE, activated_at=now), _new(following, now=now, published_at=0)))

    @property
    def active(self) -> RingKey:
        return next(key for key in self.keys if key.state is KeyState.ACTIVE)

    @property
    def next(self) -> RingKey:
        return next(key for key in self.keys if key.state is KeyState.NEXT)

    def published(self) -> Iterable[RingKey]:
        """Every key that a verifier needs, the active one first."""
        order = (KeyState.ACTIVE, KeyState.NEXT, KeyState.VERIFY_ONLY)
        return sorted((key for key in self.keys if key.state in order), key=lambda key: order.index(key.state))

    def rotate(self, fresh: SigningKey, *, now: float, lead: float, ttl: float) -> Ring:
        """`next` signs from now on, `fresh` is next. Conflict `next_key_too_young` before `lead` seconds are over."""
        young = self.next.published_at + lead - now
        if young > 0:
            raise Conflict(
                "next_key_too_young",
                f"the next key was published {lead - young:.0f} s ago and may not be known everywhere yet",
                f"wait {young:.0f} s; for a leaked key use --retire-now",
            )
        return self._turned(fresh, now=now, ttl=ttl)

    def retire(self, kid: str, fresh: SigningKey, *, now: float, ttl: float) -> Ring:
        """For a leak: tokens of this key are refused from now on. NotFound `no_such_key`, Conflict `key_retired`."""
        known = [key for key in self.keys if key.kid == kid]
        if not known:
            raise NotFound("no_such_key", f"there is no key {kid[:64]!r}", "see `rempart keys list`")
        if known[0].state is KeyState.RETIRED:
            raise Conflict("key_retired", "this key is retired already")
        if known[0].state is KeyState.ACTIVE:
            ring = self._turned(fresh, now=now, ttl=ttl)
        elif known[0].state is KeyState.NEXT:
            ring = Ring((*self.keys, _new(fresh, now=now, published_at=now)))
        else:
            ring = self
        return Ring(tuple(_retired(key, now, "leak") if key.kid == kid else key for key in ring.keys))

    def replace_next(self, fresh: SigningKey, *, now: float) -> Ring:
        """For a change of algorithm: the next key was never used, so nothing is lost."""
        others = tuple(key for key in self.keys if key.state is not KeyState.NEXT)
        return Ring((*others, _new(fresh, now=now, published_at=now)))

    def settle(self, *, now: float, ttl: float, remember: float) -> Ring:
        """Retire what has no token left, forget retired keys after `remember` seconds, note a longer token life."""
        kept = []
        for key in self.keys:
            if key.state is KeyState.VERIFY_ONLY and (key.retires_at or 0) <= now:
                key = _retired(key, now, "age")
            if key.state is KeyState.RETIRED and (key.retires_at or 0) + remember <= now:
                continue
            if key.state is KeyState.ACTIVE and key.longest_ttl < ttl:
                key = replace(key, longest_ttl=ttl)
            kept.append(key)
        return Ring(tuple(kept))

    def _turned(self, fresh: SigningKey, *, now: float, ttl: float) -> Ring:
        turned = []
        for key in self.keys:
            if key.state is KeyState.ACTIVE:
                end = now + max(key.longest_ttl, ttl) + CLOCK_SKEW
                key = replace(key, state=KeyState.VERIFY_ONLY, retires_at=end, private_jwk=None)
            elif key.state is KeyState.NEXT:
                key = replace(key, state=KeyState.ACTIVE, activated_at=now, longest_ttl=ttl)
            turned.append(key)
        return Ring((*turned, _new(fresh, now=now, published_at=now)))


def _new(key: SigningKey, *, now: float, published_at: float, ttl: float = 0) -> RingKey:
    return RingKey(
        kid=key.kid,
        algorithm=key.algorithm,
        state=KeyState.NEXT,
        created_at=now,
        published_at=published_at,
        longest_ttl=ttl,
        public_jwk=key.public_jwk(),
        private_jwk=key.dump(),
    )


def _retired(key: RingKey, now: float, why: str) -> RingKey:
    return replace(key, state=KeyState.RETIRED, retires_at=now, retired_for=why, private_jwk=None)
