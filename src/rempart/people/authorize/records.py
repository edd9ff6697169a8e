"""Typed once-records: what waits for its one use, found by 256 random bits that only the client holds.

The store sees the SHA-256 of the handle and a value sealed for it; who reads the store learns nothing and can use
nothing.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from rempart.crypto.aead import seal, unseal
from rempart.kernel.clock import Clock

from ..ports import OnceStore

T = TypeVar("T", bound=msgspec.Struct)
_HANDLE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def new_handle() -> str:
    """256 random bits, base64url."""
    return base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A record and the very bytes it was read as, for `replace`."""

    value: T
    sealed: bytes = field(repr=False)


class Records(Generic[T]):
    """One kind of record; `key` seals it and is 32 bytes. `ttl` in seconds. Raises Unavailable as the store does."""

    def __init__(self, store: OnceStore, clock: Clock, kind: str, type_: type[T], *, key: bytes, ttl: float) -> None:
        self._store, self._clock, self._kind, self._type = store, clock, kind, type_
        self._key, self.ttl = key, ttl

    async def open(self, value: T, handle: str = "") -> str:
        """The new record's handle: `handle`, or a new one when that is empty or in use."""
        while True:
            handle = handle or new_handle()
            at = _hash(handle)
            if await self._store.put(self._kind, at, self._seal(at, value), self._clock.now() + self.ttl):
                return handle
            handle = ""

    async def find(self, handle: str) -> Found[T] | None:
        at = _hash(handle)
        sealed = await self._store.peek(self._kind, at)
        return None if sealed is None else Found(self._unseal(at, sealed), sealed)

    async def take(self, handle: str) -> T | None:
        """Of many callers one gets it."""
        at = _hash(handle)
        sealed = await self._store.take(self._kind, at)
        return None if sealed is None else self._unseal(at, sealed)

    async def replace(self, handle: str, found: Found[T], value: T) -> Found[T] | None:
        """None when somebody else changed it meanwhile: of many callers with one `found` one gets on."""
        at = _hash(handle)
        sealed = self._seal(at, value)
        return Found(value, sealed) if await self._store.swap(self._kind, at, found.sealed, sealed) else None

    def _seal(self, at: bytes, value: T) -> bytes:
        return seal(self._key, msgspec.json.encode(value), self._context(at))

    def _unseal(self, at: bytes, sealed: bytes) -> T:
        return msgspec.json.decode(unseal(self._key, sealed, self._context(at)), type=self._type)

    def _context(self, at: bytes) -> bytes:
        return f"people/once/{self._kind}/".encode() + at


def is_handle(text: str) -> bool:
    return _HANDLE.fullmatch(text) is not None


def _hash(handle: str) -> bytes:
    return hashlib.sha256(handle.encode("utf-8", "replace")).digest()
