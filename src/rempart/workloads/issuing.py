"""An issuing CA: its key is made here, lives in memory only, and is replaced at half of its lifetime.

Rotation is prepare → activate → retire. Prepare makes a key and has the root-signer sign it; a failure leaves the
active one as it is. Activate records the change and signs with the new one from then on; chains carry the issuing
certificate, so no peer has to learn it before. Retire forgets the old key at once: certificates that it signed stay
valid, since they never outlive its certificate, which is kept for display until it expires.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rempart.crypto import x509
from rempart.crypto.svid import verify_issuing
from rempart.kernel.clock import Clock
from rempart.kernel.errors import RempartError, Unavailable
from rempart.kernel.event import Event, EventType, Recorder, Severity

from .ports import Supervisor

RETRY = (0.5, 30.0)


@dataclass(frozen=True, slots=True)
class Issuing:
    """`above` lies between it and its root: nothing, unless an upstream authority is no root itself."""

    certificate: x509.Certificate
    key: x509.EcKey = field(repr=False)
    rotate_at: float
    above: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What follows the leaf in a handshake."""
        return self.certificate, *self.above


class IssuingAuthority:
    """`kind` is spiffe or web. Use `issuing()` for every signature: it never gives one that has expired."""

    def __init__(
        self, kind: str, supervisor: Supervisor, roots: Sequence[x509.Certificate], recorder: Recorder, clock: Clock
    ) -> None:
        self.kind = kind
        self.roots = tuple(roots)
        self._supervisor = supervisor
        self._recorder = recorder
        self._clock = clock
        self.signed_by: str | None = None
        """Fingerprint of the root that signed the active one."""
        self.rotation: dict[str, object] = {}
        """What the supervisor said last of the roots' own rotation, for display."""
        self._active: Issuing | None = None
        self._retired: list[x509.Certificate] = []
        self._renewing = asyncio.Lock()

    def issuing(self) -> Issuing:
        """Raises Unavailable `no_issuing_authority`."""
        if self._active is None or self._clock.now() >= self._active.certificate.not_after:
            raise Unavailable(
                "no_issuing_authority",
                f"there is no valid {self.kind} issuing CA",
                "see that the supervisor runs: `rempart status`",
            )
        return self._active

    def trust(self, roots: Sequence[x509.Certificate]) -> None:
        """The roots from now on. Whose issuing CA the active one is does not change."""
        self.roots = tuple(roots)

    async def rotate(self, *, operator: str | None = None, reason: str = "half of its lifetime is over") -> Issuing:
        """Raises what the supervisor or the recorder raises; the active one then stays."""
        async with self._renewing:
            key = x509.EcKey.generate()
            now = self._clock.now()
            answer = await self._supervisor.sign(self.kind, key.request().decode())
            certificate, *above = map(x509.Certificate.parse, x509.pem_to_ders(answer))
            signer = verify_issuing(
                certificate, key, [root.der for root in self.roots], above=[one.der for one in above], now=now
            )
            before = self._active
            await self._recorder.record(
                Event(
                    type=EventType.AUTHORITY_ROTATED,
                    at=now,
                    success=True,
                    operator=operator,
                    reason="asked for by the operator" if operator else reason,
                    service="identity",
                    before={"serial": before.certificate.serial} if before else None,
                    after={"kind": self.kind, "serial": certificate.serial, "not_after": certificate.not_after},
                )
            )
            self.signed_by = x509.Certificate.parse(signer).fingerprint
            self._active = Issuing(certificate, key, now + (certificate.not_after - now) / 2, tuple(above))
            if before is not None:
                self._retired.append(before.certificate)
            self._retired = [c for c in self._retired if c.not_after > now][-16:]
            return self._active

    async def keep_fresh(self, poll_s: float = 15.0) -> None:
        """Rotate at half-life, for ever; while that fails try again, ever more rarely, with jitter."""
        wait = RETRY[0]
        while True:
            due = (self._active.rotate_at if self._active else 0.0) - self._clock.now()
            if due > 0:
                await asyncio.sleep(min(due, poll_s))  # in slices, so that a clock that jumped is noticed
                continue
            try:
                await self.rotate()
                wait = RETRY[0]
            except RempartError as error:
                await self._alarm(error)
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # nosec B311 - jitter, no secret
                wait = min(wait * 2, RETRY[1])

    async def start(self, within_s: float) -> None:
        """The first issuing CA; raises what made the last attempt fail once `within_s` are over."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                await self.rotate()
                return
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)

    async def _alarm(self, error: RempartError) -> None:
        event = Event(
            type=EventType.ALARM,
            at=self._clock.now(),
            success=False,
            severity=Severity.HIGH,
            reason=f"the {self.kind} issuing CA could not be rotated: {error.reason}",
            service="identity",
        )
        try:
            await self._recorder.record(event)
        except RempartError:
            return  # the recorder itself is what fails; the supervisor watches that

    def describe(self) -> dict[str, object]:
        """For the admin API: `{kind, roots, active, retired}` with serials, fingerprints and times."""

        def show(certificate: x509.Certificate) -> dict[str, object]:
            return {
                "serial": certificate.serial,
                "sha256": certificate.fingerprint,
                "not_before": certificate.not_before,
                "not_after": certificate.not_after,
            }

        return {
            "kind": self.kind,
            "roots": [show(root) for root in self.roots],
            "active": show(self._active.certificate) if self._active else None,
            "signed_by": self.signed_by,
            "root_rotation": self.rotation,
            "rotate_at": self._active.rotate_at if self._active else None,
            "retired": [show(certificate) for certificate in self._retired],
        }
