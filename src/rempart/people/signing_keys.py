"""The signing keys of people: the ring, sealed in the store that all instances share, and who turns it.

An instance that turns it is seen by the others at their next `maintain`, long before a key signs that they don't
publish: the next key was in the ring for `lead` seconds. What they sign meanwhile with the key before is covered by
`CLOCK_SKEW`; an instance that can't reach the store for longer signs nothing more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence

import msgspec

from rempart.crypto.aead import seal, unseal
from rempart.crypto.jose import Jwks, SigningKey
from rempart.kernel.clock import Clock
from rempart.kernel.errors import Conflict, Integrity, Unavailable
from rempart.kernel.event import Event, EventType, Recorder, Severity

from .model import Origin
from .ports import RingStore
from .signing_ring import CLOCK_SKEW, Ring, RingKey

_CONTEXT = b"people/signing-keys"
_REMEMBER = 90 * 86400.0  # seconds for which a retired key is still listed
_ATTEMPTS = 5  # at a turn that another instance interferes with


class SealedRing:
    """Replaced whole, version by version."""

    def __init__(self, store: RingStore, key: bytes) -> None:
        self._store, self._key = store, key

    async def load(self, newer_than: int = 0) -> tuple[int, Ring] | None:
        """Raises Integrity `seal_broken` when the ring was changed or the key is another, and Unavailable."""
        held = await self._store.load(newer_than)
        if held is None:
            return None
        try:
            return held[0], Ring(tuple(msgspec.json.decode(unseal(self._key, held[1], _CONTEXT), type=list[RingKey])))
        except Integrity as error:
            raise Integrity(
                error.code,
                f"the signing keys can't be opened: {error.reason}",
                "start people with the key they were sealed with, or delete them: everybody has to log in again then",
            ) from None

    async def save(self, version: int, ring: Ring) -> bool:
        """Durable when it returns; False when another instance made this version."""
        return await self._store.save(version, seal(self._key, msgspec.json.encode(ring.keys), _CONTEXT))


class SigningKeys:
    """`lead` is how long a key is published before it signs, `key_ttl` how long it signs, both in seconds; `token_ttl`
    is the longest life of anything that is signed. `access`, one of `algorithms`, is for access tokens.

    Every turn is recorded, then saved, then used: a crash in between leaves a record of a turn that did not happen,
    never a turn without record. `shared`: other instances, of the same settings, turn it, too.
    """

    _ring: Ring
    _signers: dict[str, SigningKey]
    _jwks: Jwks
    _document: bytes

    def __init__(
        self,
        sealed: SealedRing,
        recorder: Recorder,
        clock: Clock,
        *,
        algorithms: Sequence[str],
        access: str,
        token_ttl: float,
        key_ttl: float,
        lead: float,
        shared: bool = False,
        generate: Callable[[str], SigningKey] = SigningKey.generate,
    ) -> None:
        self._sealed, self._recorder, self._clock, self._generate = sealed, recorder, clock, generate
        self._algorithms, self._access, self._token_ttl = tuple(algorithms), access, token_ttl
        self._key_ttl, self._lead, self._shared = key_ttl, min(lead, key_ttl / 2), shared
        self._turning = asyncio.Lock()
        self._version, self._seen_at = 0, clock.monotonic()

    async def start(self) -> SigningKeys:
        """Load the ring, or make the first one. Raises Integrity `seal_broken` and Unavailable.

        What an older version or another profile left without a key of some algorithm gets one.
        """
        while True:
            await self._follow()
            now = self._clock.now()
            before = self._ring.algorithms if self._version else frozenset()
            if before == set(self._algorithms):
                return self
            missing = [name for name in self._algorithms if name not in before]
            pairs = [(self._generate(name), self._generate(name)) for name in missing]
            if self._version == 0:
                await self._save(Ring.first(pairs, now=now, ttl=self._token_ttl))
            else:
                await self._save(self._ring.with_algorithms(self._algorithms, pairs, now=now, ttl=self._token_ttl))

    def signer(self, algorithm: str) -> SigningKey:
        """The active key of one of `algorithms`.

        Raises Unavailable `signing_keys_unknown` when others may have turned the ring unseen, or to other settings.
        """
        unseen = self._shared and self._clock.monotonic() - self._seen_at > CLOCK_SKEW / 2
        signer = self._signers.get(algorithm)
        if unseen or signer is None:
            raise Unavailable(
                "signing_keys_unknown", "the signing keys have not been seen for long", "see that the database runs"
            )
        return signer

    @property
    def access_signer(self) -> SigningKey:
        """Gateways learn a key only when their copy of the key set has aged: until then one that they know signs."""
        if self._known_at > self._clock.now():
            known = min(self._signers, key=lambda name: self._ring.active(name).published_at)
            return self.signer(known)
        return self.signer(self._access)

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
        """Every algorithm's, or that of the key to retire. Raises Conflict or NotFound as `Ring` does, and Unavailable
        when it can't be recorded."""
        fresh: dict[str, SigningKey] = {}
        async with self._turning:
            for _ in range(_ATTEMPTS):
                await self._follow()
                now = self._clock.now()
                if retire_now is None:
                    await self._make(fresh, self._ring.algorithms)
                    turned = self._ring.rotate(fresh, now=now, lead=self._lead, ttl=self._token_ttl)
                else:
                    algorithm = self._ring.find(retire_now).algorithm
                    await self._make(fresh, [algorithm])
                    turned = self._ring.retire(retire_now, fresh[algorithm], now=now, ttl=self._token_ttl)
                why = "a key leaked" if retire_now else "asked"
                if await self._turn(turned, why, origin, bool(retire_now)):
                    return self._ring
        raise Conflict("ring_turned_meanwhile", "other instances turn the signing keys all the time", "try again")

    async def maintain(self) -> None:
        """Follow the others, turn on schedule, retire what has no token left; call it every few seconds."""
        async with self._turning:
            await self._follow()
            now = self._clock.now()
            ring = self._ring.settle(now=now, ttl=self._token_ttl, remember=_REMEMBER)
            due = [name for name in ring.algorithms if self._due(ring, name, now)]
            if due and ring.room_for(len(due)):
                fresh: dict[str, SigningKey] = {}
                await self._make(fresh, due)
                ring = ring.rotate(fresh, now=now, lead=self._lead, ttl=self._token_ttl)
                await self._turn(ring, "scheduled", Origin(), leak=False)
            elif ring != self._ring:
                await self._save(ring)

    def _due(self, ring: Ring, algorithm: str, now: float) -> bool:
        signed_for = now - (ring.active(algorithm).activated_at or now)
        return signed_for >= self._key_ttl and now - ring.next(algorithm).published_at >= self._lead

    async def _make(self, fresh: dict[str, SigningKey], algorithms: Iterable[str]) -> None:
        """Those that are missing; off the loop, since RSA takes long."""
        for name in algorithms:
            if name not in fresh:
                fresh[name] = await asyncio.to_thread(self._generate, name)

    async def _turn(self, ring: Ring, why: str, origin: Origin, leak: bool) -> bool:
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
        return await self._save(ring)

    async def _save(self, ring: Ring) -> bool:
        version = self._version + 1
        if not await self._sealed.save(version, ring):
            await self._follow()
            return False
        self._use(version, ring)
        return True

    async def _follow(self) -> None:
        asked_at = self._clock.monotonic()
        held = await self._sealed.load(self._version)
        if held is not None:
            self._use(*held)
        self._seen_at = asked_at

    def _use(self, version: int, ring: Ring) -> None:
        self._version, self._ring = version, ring
        self._signers = {name: SigningKey.load(ring.active(name).private_jwk or {}) for name in ring.algorithms}
        published_at = ring.active(self._access).published_at if self._access in self._signers else 0.0
        self._known_at = published_at + self._lead if published_at else 0.0
        document = {"keys": [key.public_jwk for key in ring.published()]}
        self._jwks = Jwks.parse(document)
        self._document = json.dumps(document, separators=(",", ":")).encode()
