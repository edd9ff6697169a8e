"""What must outlive the process: the bundle's sequence and the public halves of JWT keys, sealed in one file.

Sealed, because who could add a public key there could sign identities. Private keys are never written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rempart.crypto import aead
from rempart.crypto.x509 import Certificate, pem_to_ders
from rempart.kernel.clock import Clock, SystemClock
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import Integrity, Unavailable

from .model import Adopted, Authorities, PublishedKey

LOOK = 10.0
_CONTEXT = b"rempart/identity/bundle-state/v1"


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sequence: int
    roots: list[str]
    keys: list[PublishedKey]
    adopted: dict[str, Adopted] = {}


class BundleState:
    """A `BundleStore` of one server that is alone. Load once. One writer."""

    lead = 0.0

    def __init__(self, path: Path, seal_key: bytes, clock: Clock | None = None) -> None:
        self._path, self._seal_key, self._clock = path, seal_key, clock or SystemClock()
        self.sequence = 0
        self.keys: tuple[PublishedKey, ...] = ()
        self.others = Authorities()
        self._roots: tuple[str, ...] = ()
        self._adopted: dict[str, Adopted] = {}
        self._changing = asyncio.Lock()

    def load(self) -> None:
        """Nothing there is a first start; raises Integrity `bundle_state_broken` when it is not what was written."""
        try:
            sealed = self._path.read_bytes()
        except FileNotFoundError:
            return
        try:
            state = msgspec.json.decode(aead.unseal(self._seal_key, sealed, _CONTEXT), type=_State)
        except (Integrity, msgspec.DecodeError):
            raise Integrity(
                "bundle_state_broken",
                f"{self._path.name} is not what identity wrote",
                "find out who changed it; removing the file makes JWT-SVIDs issued before the restart invalid",
            ) from None
        self._take(state)

    def told(self) -> tuple[str, ...]:
        return self._roots

    async def save(self, *, roots: Sequence[Certificate], keys: Sequence[PublishedKey]) -> None:
        fingerprints = [root.fingerprint for root in roots]
        async with self._changing:
            changed = tuple(fingerprints) != self._roots or shown(keys) != shown(self.keys)
            await self._write(_State(self.sequence + changed, fingerprints, list(keys), self._adopted))

    def adopted(self) -> Mapping[str, Adopted]:
        now = self._clock.now()
        return {name: one for name, one in self._adopted.items() if one.until > now}

    async def adopt(self, name: str, what: Adopted) -> None:
        async with self._changing:
            await self._keep_adopted({**self._adopted, name: what})

    async def disown(self, name: str) -> bool:
        async with self._changing:
            if name not in self._adopted:
                return False
            await self._keep_adopted({one: what for one, what in self._adopted.items() if one != name})
            return True

    async def keep_expired_out(self, announce: Callable[[], None]) -> None:
        """For ever: what was adopted ends in time."""
        while True:
            for name in set(self._adopted) - set(self.adopted()):
                with contextlib.suppress(Unavailable):  # the disk is full: tried again
                    await self.disown(name)
                    announce()
            await asyncio.sleep(LOOK)

    async def _keep_adopted(self, adopted: dict[str, Adopted]) -> None:
        await self._write(_State(self.sequence + 1, list(self._roots), list(self.keys), adopted))

    async def _write(self, state: _State) -> None:
        sealed = aead.seal(self._seal_key, msgspec.json.encode(state), _CONTEXT)
        try:
            await asyncio.to_thread(replace_file, self._path, sealed)
        except OSError as error:
            raise Unavailable("bundle_state_failed", f"{self._path.name} can't be written: {error.strerror}") from None
        self._take(state)

    def _take(self, state: _State) -> None:
        self.sequence, self._roots, self.keys = state.sequence, tuple(state.roots), tuple(state.keys)
        self._adopted = dict(state.adopted)
        self.others = united(self._adopted.values())


def united(adopted: Iterable[Adopted]) -> Authorities:
    """What all of them vouch with."""
    known = list(adopted)
    roots = tuple(Certificate.parse(der) for one in known for pem in one.roots for der in pem_to_ders(pem))
    keys = tuple(key for one in known for key in one.keys)
    return Authorities(roots, keys, frozenset(key["kid"] for key in keys))


def shown(keys: Sequence[PublishedKey]) -> list[Mapping[str, Any]]:
    """What of them is in the bundle."""
    return [key.jwk for key in keys]
