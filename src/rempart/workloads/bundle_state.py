"""What must outlive the process: the bundle's sequence and the public halves of JWT keys, sealed in one file.

Sealed, because who could add a public key there could sign identities. Private keys are never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rempart.crypto import aead
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import Integrity, Unavailable

_CONTEXT = b"rempart/identity/bundle-state/v1"


class PublishedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`jwk` is public; tokens signed by it may be about until `until` (seconds since the epoch)."""

    jwk: dict[str, str]
    until: float


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sequence: int
    roots: list[str]
    keys: list[PublishedKey]


@dataclass
class BundleState:
    """Load once; `save` returns when it is on disk. One writer."""

    path: Path
    seal_key: bytes
    sequence: int = 0
    roots: tuple[str, ...] = ()
    keys: tuple[PublishedKey, ...] = ()

    def load(self) -> None:
        """Nothing there is a first start; raises Integrity `bundle_state_broken` when it is not what was written."""
        try:
            sealed = self.path.read_bytes()
        except FileNotFoundError:
            return
        try:
            state = msgspec.json.decode(aead.unseal(self.seal_key, sealed, _CONTEXT), type=_State)
        except (Integrity, msgspec.DecodeError):
            raise Integrity(
                "bundle_state_broken",
                f"{self.path.name} is not what identity wrote",
                "find out who changed it; removing the file makes JWT-SVIDs issued before the restart invalid",
            ) from None
        self.sequence, self.roots, self.keys = state.sequence, tuple(state.roots), tuple(state.keys)

    def save(self, *, roots: tuple[str, ...], keys: tuple[PublishedKey, ...]) -> None:
        """Count the sequence up if what the bundle shows has changed. Raises Unavailable `bundle_state_failed`."""
        if roots != self.roots or self._shown(keys) != self._shown(self.keys):
            self.sequence += 1
        self.roots, self.keys = roots, keys
        state = _State(self.sequence, list(roots), list(keys))
        sealed = aead.seal(self.seal_key, msgspec.json.encode(state), _CONTEXT)
        try:
            replace_file(self.path, sealed)
        except OSError as error:
            raise Unavailable("bundle_state_failed", f"{self.path.name} can't be written: {error.strerror}") from None

    @staticmethod
    def _shown(keys: tuple[PublishedKey, ...]) -> list[Mapping[str, Any]]:
        return [key.jwk for key in keys]
