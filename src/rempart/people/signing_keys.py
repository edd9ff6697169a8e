"""The signing keys of this process: the ring, sealed on disk, and who turns it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from rempart.crypto.aead import seal, unseal
from rempart.crypto.jose import Jwks, SigningKey
from rempart.kernel.clock import Clock
from rempart.kernel.errors import Integrity
from rempart.kernel.event import Event, EventType, Recorder, Severity

from .model import Origin
from .signing_ring import Ring, RingKey

_CONTEXT = b"people/signing-keys"
_REMEMBER = 90 * 86400.0  # seconds for which a retired key is still listed


class SealedRing:
    """One file; replaced whole, so that a crash leaves the old ring or the new one."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._path = path
        self._key = key

    def load(self) -> Ring | None:
        """Raises Integrity `seal_broken` when the file was changed or the master key is another."""
        try:
            sealed = self._path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return Ring(tuple(msgspec.json.decode(unseal(self._key, sealed, _CONTEXT), type=list[RingKey])))
        except Integrity as error:
            raise Integrity(
                error.code,
                f"{self._path.name} can't be opened: {error.reason}",
                "restore the file, or delete it: everybody has to log in again then",
            ) from None

    def save(self, ring: Ring) -> None:
        """Durable when it returns."""
        draft = self._path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(seal(self._key, msgspec.json.encode(ring.keys), _CONTEXT))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class SigningKeys:
    """`lead` is how long a key is published before it signs, `key_ttl` how long it signs, both in seconds.

    Every turn is recorded, then saved, then used: a crash in between leaves a record of a turn that did not happen,
    never a turn without record.
    """

    def __init__(
        self,
        file: SealedRing,
        recorder: Recorder,
        clock: Clock,
        *,
        algorithm: str,
        token_ttl: float,
        key_ttl: float,
        lead: float,
    ) -> None:
        self._file, self._recorder, self._clock = file, recorder, clock
        self._algorithm, self._token_ttl = algorithm, token_ttl
        self._key_ttl, self._lead = key_ttl, min(lead, key_ttl / 2)
        self._turning = asyncio.Lock()
        ring = file.load()
        if ring is None:
            ring = Ring.first(self._generate(), self._generate(), now=clock.now(), ttl=token_ttl)
            file.save(ring)
        elif ring.next.algorithm != algorithm:
            ring = ring.replace_next(self._generate(), now=clock.now())
            file.save(ring)
        self._use(ring)

    @property
    def signer(self) -> SigningKey:
        return self._signer

    @property
    def jwks(self) -> Jwks:
        return self._jwks

    @property
    def document(self) -> bytes:
        """The published key set, RFC 7517."""
        return self._document

    @property
    def ring(self) -> Ring:
        return self._ring

    async def rotate(self, origin: Origin, *, retire_now: str | None = None) -> Ring:
        """Raises Conflict or NotFound as `Ring` does, and Unavailable when it can't be recorded."""
        fresh = await asyncio.to_thread(self._generate)
        async with self._turning:
            now = self._clock.now()
            if retire_now is None:
                turned = self._ring.rotate(fresh, now=now, lead=self._lead, ttl=self._token_ttl)
            else:
                turned = self._ring.retire(retire_now, fresh, now=now, ttl=self._token_ttl)
            await self._turn(turned, "a key leaked" if retire_now else "asked", origin, bool(retire_now))
        return self._ring

    async def maintain(self) -> None:
        """Turn on schedule and retire what has no token left; call it every few seconds."""
        async with self._turning:
            now = self._clock.now()
            ring = self._ring.settle(now=now, ttl=self._token_ttl, remember=_REMEMBER)
            due = now - (ring.active.activated_at or now) >= self._key_ttl
            if due and now - ring.next.published_at >= self._lead:
                fresh = await asyncio.to_thread(self._generate)
                ring = ring.rotate(fresh, now=now, lead=self._lead, ttl=self._token_ttl)
                await self._turn(ring, "scheduled", Origin(), leak=False)
            elif ring != self._ring:
                await asyncio.to_thread(self._file.save, ring)
                self._use(ring)

    async def _turn(self, ring: Ring, why: str, origin: Origin, leak: bool) -> None:
        event = Event(
            type=EventType.SIGNING_KEY_ROTATED,
            at=self._clock.now(),
            success=True,
            severity=Severity.HIGH if leak else Severity.INFO,
            reason=why,
            operator=origin.operator,
            request_id=origin.request_id,
            before={"keys": [key.public() for key in self._ring.keys]},
            after={"keys": [key.public() for key in ring.keys]},
        )
        await self._recorder.record(event)
        await asyncio.to_thread(self._file.save, ring)
        self._use(ring)

    def _use(self, ring: Ring) -> None:
        self._ring = ring
        self._signer = SigningKey.load(ring.active.private_jwk or {})
        document = {"keys": [key.public_jwk for key in ring.published()]}
        self._jwks = Jwks.parse(document)
        self._document = json.dumps(document, separators=(",", ":")).encode()

    @property
    def _generate(self) -> Callable[[], SigningKey]:
        return lambda: SigningKey.generate(self._algorithm)
