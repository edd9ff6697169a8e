"""What must outlive the process: the bundle's sequence and the public halves of JWT keys, sealed in one file.

Sealed, because who could add a public key there could sign identities. Private keys are never written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rempart.crypto import aead
from rempart.crypto.x509 import Certificate
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import Integrity, Unavailable

from .model import Authorities, PublishedKey

_CONTEXT = b"rempart/identity/bundle-state/v1"


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sequence: int
    roots: list[str]
    keys: list[PublishedKey]


class BundleState:
    """A `BundleStore` of one server that is alone. Load once. One writer."""

    lead = 0.0
    others = Authorities()

    def __init__(self, path: Path, seal_key: bytes) -> None:
        self._path, self._seal_key = path, seal_key
        self.sequence = 0
        self.keys: tuple[PublishedKey, ...] = ()
        self._roots: tuple[str, ...] = ()

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
        self.sequence, self._roots, self.keys = state.sequence, tuple(state.roots), tuple(state.keys)

    def told(self) -> tuple[str, ...]:
        return self._roots

    async def save(self, *, roots: Sequence[Certificate], keys: Sequence[PublishedKey]) -> None:
        fingerprints, keys = tuple(root.fingerprint for root in roots), tuple(keys)
        changed = fingerprints != self._roots or shown(keys) != shown(self.keys)
        state = _State(self.sequence + changed, list(fingerprints), list(keys))
        sealed = aead.seal(self._seal_key, msgspec.json.encode(state), _CONTEXT)
        try:
            await asyncio.to_thread(replace_file, self._path, sealed)
        except OSError as error:
            raise Unavailable("bundle_state_failed", f"{self._path.name} can't be written: {error.strerror}") from None
        self.sequence, self._roots, self.keys = state.sequence, fingerprints, keys


def shown(keys: Sequence[PublishedKey]) -> list[Mapping[str, Any]]:
    """What of them is in the bundle."""
    return [key.jwk for key in keys]
