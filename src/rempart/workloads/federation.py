"""Partner trust domains: their bundles, fetched again and again, and never an older one (SPIFFE_Federation.md).

What was fetched is kept sealed, so that a restart neither forgets a partner nor goes back to an old bundle.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rempart.crypto import aead
from rempart.kernel.clock import Clock
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import BadInput, Conflict, Integrity, RempartError, Unavailable
from rempart.kernel.event import Event, EventType, Recorder, Severity

from .foreign_bundle import ForeignBundle, parse_bundle
from .ports import BundleSource

RETRY = 10.0
_CONTEXT = b"rempart/identity/partners/v1"


@dataclass(frozen=True, slots=True)
class Partner:
    """`profile` is https_web or https_spiffe; then `endpoint_id` is the SPIFFE ID that answers at `url`. `bundle` is
    what is known of it to begin with (JSON), or empty."""

    trust_domain: str
    url: str = ""
    profile: str = "https_web"
    endpoint_id: str = ""
    ca: str = ""
    bundle: str = ""


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bundles: dict[str, str]


class Federation:
    """`ours` gives the fingerprints of our own roots. One event loop."""

    def __init__(
        self,
        partners: Sequence[Partner],
        source: BundleSource,
        *,
        path: Path,
        seal_key: bytes,
        ours: Callable[[], Sequence[str]],
        recorder: Recorder,
        clock: Clock,
        announce: Callable[[], None],
    ) -> None:
        self._partners = {partner.trust_domain: partner for partner in partners}
        self._source = source
        self._path, self._key = path, seal_key
        self._ours, self._recorder, self._clock, self._announce = ours, recorder, clock, announce
        self._bundles: dict[str, ForeignBundle] = {}
        self._told: dict[str, str] = {}

    def load(self) -> None:
        """What was fetched before, else what each partner begins with. Raises Integrity `partners_broken`, BadInput
        `bad_bundle` for what rempart.toml gives."""
        kept: Mapping[str, str] = {}
        try:
            sealed = self._path.read_bytes()
            kept = msgspec.json.decode(aead.unseal(self._key, sealed, _CONTEXT), type=_Kept).bundles
        except FileNotFoundError:
            pass
        except (Integrity, msgspec.DecodeError):
            raise Integrity("partners_broken", f"{self._path.name} is not what identity wrote") from None
        for name, partner in self._partners.items():
            given = [text for text in (kept.get(name), partner.bundle) if text]
            known = [parse_bundle(text, name, ours=self._ours()) for text in given]
            if known:  # the newer one: an operator may have brought a partner's bundle by hand
                self._bundles[name] = max(known, key=lambda bundle: -1 if bundle.sequence is None else bundle.sequence)

    def bundles(self, trust_domains: Sequence[str]) -> list[ForeignBundle]:
        """Those that are known."""
        return [self._bundles[name] for name in trust_domains if name in self._bundles]

    def bundle(self, trust_domain: str) -> ForeignBundle | None:
        return self._bundles.get(trust_domain)

    async def refresh(self, trust_domain: str) -> ForeignBundle:
        """Fetch once. What is new is recorded, then stored, then used.

        Raises Unavailable, BadInput `bad_bundle`, Conflict `bundle_downgrade`.
        """
        partner, before = self._partners[trust_domain], self._bundles.get(trust_domain)
        text = await self._source.fetch(partner, before.roots if before else ())
        after = parse_bundle(text, trust_domain, ours=self._ours())
        if before is not None:
            _check_newer(before, after)
        self._told.pop(trust_domain, None)
        if before is not None and before.contents == after.contents and before.sequence == after.sequence:
            self._bundles[trust_domain] = after  # the hint may differ
            return after
        await self._record(after, before)
        await asyncio.to_thread(self._save, {**self._bundles, trust_domain: after})
        self._bundles[trust_domain] = after
        self._announce()
        return after

    async def keep_fresh(self, trust_domain: str) -> None:
        """For ever, as often as the partner says; what fails is told once, and tried again."""
        while True:
            try:
                bundle = await self.refresh(trust_domain)
                wait = bundle.refresh
            except RempartError as error:
                wait = RETRY
                await self._tell(trust_domain, error)
            await asyncio.sleep(wait * random.uniform(0.8, 1.0))  # nosec B311 - jitter, no secret

    def describe(self) -> list[dict[str, object]]:
        """For the admin API."""
        return [
            {
                "trust_domain": name,
                "url": partner.url,
                "profile": partner.profile,
                "sequence": bundle.sequence if (bundle := self._bundles.get(name)) else None,
                "roots": [root.fingerprint for root in bundle.roots] if bundle else [],
                "failure": self._told.get(name, ""),
            }
            for name, partner in self._partners.items()
        ]

    @property
    def fetched(self) -> list[str]:
        return [name for name, partner in self._partners.items() if partner.url]

    def _save(self, bundles: Mapping[str, ForeignBundle]) -> None:
        kept = _Kept({name: bundle.text for name, bundle in bundles.items()})
        sealed = aead.seal(self._key, msgspec.json.encode(kept), _CONTEXT)
        try:
            replace_file(self._path, sealed)
        except OSError as error:
            raise Unavailable("partners_failed", f"{self._path.name} can't be written: {error.strerror}") from None

    async def _record(self, after: ForeignBundle, before: ForeignBundle | None) -> None:
        def show(bundle: ForeignBundle) -> dict[str, object]:
            return {"sequence": bundle.sequence, "roots": [root.fingerprint for root in bundle.roots]}

        await self._recorder.record(
            Event(
                type=EventType.BUNDLE_CHANGED,
                at=self._clock.now(),
                success=True,
                service="identity",
                reason=f"the trust domain {after.trust_domain} has another bundle",
                before=show(before) if before else None,
                after={"trust_domain": after.trust_domain, **show(after)},
            )
        )

    async def _tell(self, trust_domain: str, error: RempartError) -> None:
        if self._told.get(trust_domain) == error.reason:
            return
        self._told[trust_domain] = error.reason
        lied = isinstance(error, BadInput | Conflict)
        try:
            await self._recorder.record(
                Event(
                    type=EventType.BUNDLE_REFUSED,
                    at=self._clock.now(),
                    success=False,
                    severity=Severity.HIGH if lied else Severity.MEDIUM,
                    service="identity",
                    reason=error.reason,
                    details={"trust_domain": trust_domain, "code": error.code},
                )
            )
        except RempartError:
            return  # the recorder itself is what fails; the supervisor watches that


def _check_newer(before: ForeignBundle, after: ForeignBundle) -> None:
    """Raises Conflict `bundle_downgrade`: an older bundle may trust a key that leaked since."""
    if before.sequence is None:
        return
    same = before.contents == after.contents
    if after.sequence is None or after.sequence < before.sequence or (after.sequence == before.sequence and not same):
        raise Conflict(
            "bundle_downgrade",
            f"{after.trust_domain} gives bundle {after.sequence} where {before.sequence} was known",
            "ask who runs that trust domain; to start over, remove it from rempart.toml for one start",
        )
