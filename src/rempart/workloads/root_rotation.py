"""The roots of one authority while one replaces another: prepare → activate → retire, as a state to be kept.

Steady: `current` signs and is all that peers trust. Prepared: `next` is trusted as well, and from the moment that
identity published both, `overlap` seconds pass so that every peer has it. Retiring: `next` became `current` and signs,
`previous` stays trusted until nothing that it vouches for is valid; or, where a key leaked, only for `grace` seconds,
in which everybody is given new certificates. Each step is one value, written at one stroke: whoever is killed in
between goes on from the last one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from rempart.kernel.errors import Conflict


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`certificate` is PEM; `sealed` the name of the file with its sealed private key; the rest is what the certificate
    says (`fingerprint`: SHA-256 in hexadecimal; times in seconds since the epoch), so that who keeps roots parses none.
    """

    certificate: str
    sealed: str
    fingerprint: str = ""
    not_before: float = 0.0
    not_after: float = 0.0


class NewRoot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A root that nobody trusts yet, and what its file is to hold."""

    root: Root
    sealed_key: bytes


class RootSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Times in seconds since the epoch; `published_at` is when identity had both roots in its bundle."""

    current: Root
    next: Root | None = None
    previous: Root | None = None
    overlap: float = 0.0
    grace: float | None = None
    published_at: float | None = None
    retire_at: float | None = None

    @property
    def phase(self) -> str:
        return "prepared" if self.next else "retiring" if self.previous else "steady"

    @property
    def roots(self) -> tuple[Root, ...]:
        """All that are trusted, oldest first."""
        return tuple(root for root in (self.previous, self.current, self.next) if root is not None)

    @property
    def pem(self) -> str:
        return "".join(root.certificate for root in self.roots)

    @property
    def activate_at(self) -> float | None:
        return None if self.published_at is None or self.next is None else self.published_at + self.overlap

    def prepare(self, new: Root, overlap: float) -> RootSet:
        """Raises Conflict `rotation_under_way`: three roots at once would only hide which one is to go."""
        if self.phase != "steady":
            raise Conflict(
                "rotation_under_way",
                f"this root is being replaced already: {self.phase}",
                "see `rempart keys list` for when that ends",
            )
        return RootSet(current=self.current, next=new, overlap=overlap)

    def hasten(self, overlap: float, grace: float) -> RootSet:
        """A key leaked. What is prepared signs after `overlap` at the latest; without that there is one to prepare.
        What was retiring is trusted no more: who follows has long had certificates of `current`."""
        if self.next is None:
            return RootSet(current=self.current)
        return msgspec.structs.replace(self, overlap=min(overlap, self.overlap), grace=grace)

    def publish(self, published: Collection[str], now: float) -> RootSet:
        """`published`: fingerprints that peers are being told. Only the first time that all are among them counts."""
        if self.next is None or self.published_at is not None:
            return self
        if not {root.fingerprint for root in self.roots} <= set(published):
            return self
        return msgspec.structs.replace(self, published_at=now)

    def advance(self, now: float, *, vouches_for: float) -> RootSet:
        """The step that is due, or itself. `vouches_for`: seconds that anything the old root signed may stay valid."""
        if self.next is not None and self.activate_at is not None and now >= self.activate_at:
            return self.activate(now, vouches_for=vouches_for)
        if self.previous is not None and (self.retire_at is None or now >= self.retire_at):
            return RootSet(current=self.current)
        return self

    def activate(self, now: float, *, vouches_for: float) -> RootSet:
        """The next one signs from now on."""
        if self.next is None:
            return self
        stays = vouches_for if self.grace is None else min(self.grace, vouches_for)
        return RootSet(current=self.next, previous=self.current, retire_at=now + stays)

    def is_due(self, now: float) -> bool:
        """Steady, and half of the root's life is over."""
        return self.phase == "steady" and now >= (self.current.not_before + self.current.not_after) / 2

    def document(self) -> dict[str, Any]:
        return {
            "roots": self.pem,
            "signing": self.current.fingerprint,
            "phase": self.phase,
            "activate_at": self.activate_at,
            "retire_at": self.retire_at,
        }
