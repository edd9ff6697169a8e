"""Who gets which identity: attest, match entries, issue, record, and only then give.

Certificates are shared by all that hold the same entry; each refresh makes a new key. What a process is given is
recorded once per process and certificate, durably, before it is given.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rempart.crypto import x509
from rempart.kernel.clock import Clock
from rempart.kernel.errors import Denied, RempartError, Unavailable
from rempart.kernel.event import Event, EventType
from rempart.kernel.spiffe import SpiffeId

from .attestation import Attestor
from .changes import Changes
from .issuing import IssuingAuthority
from .jwt_authority import check_audiences, claimed_domain, validate_foreign
from .model import REFRESH_HINT, Bundle, Entry, Facts, JwtDraft, JwtSvid, X509Svid
from .ports import IssueRecorder, JwtSigner, KnownEntries, PartnerBundles, X509Signer
from .process import Process
from .refusals import Refusals

_TOKENS_KEPT, _DELIVERIES_KEPT = (256, 4, 2048), (1024, 16, 8192)
"""At least, for each entry, at most. What is forgotten is signed, or recorded, once more."""
_LOOK_AGAIN = 30.0
_TRY_AGAIN = 1.0
_PATIENCE = 0.2
_TRIES = 3


class NothingValid(Unavailable):
    """What a caller had has ended, and no new one can be signed now: unlike else, it has nothing to go on with."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one process may have now. `refresh_at`: when to ask again (seconds since the epoch)."""

    facts: Facts
    entries: tuple[Entry, ...]
    svids: tuple[X509Svid, ...]
    refresh_at: float


@dataclass
class Counters:
    x509_issued: int = 0
    jwt_issued: int = 0
    web_issued: int = 0


@dataclass
class _Slot:
    """The certificate of one entry; `signer` is the generation of the signer that made it."""

    svid: X509Svid | None = None
    refresh_at: float = 0.0
    signer: str = ""
    asked_at: float = 0.0
    entry: Entry | None = None
    work: asyncio.Task[Unavailable | None] | None = None


class Identities:
    def __init__(
        self,
        *,
        trust_domain: str,
        gateway: SpiffeId | None,
        web_names: Sequence[str],
        svid_ttl: float,
        attestor: Attestor,
        registration: KnownEntries,
        spiffe: X509Signer,
        web: IssuingAuthority | None,
        jwt: JwtSigner,
        recorder: IssueRecorder,
        refusals: Refusals,
        changes: Changes,
        clock: Clock,
        federation: PartnerBundles | None = None,
        jitter: Callable[[], float] | None = None,
        refresh_hint: int = REFRESH_HINT,
    ) -> None:
        """`jitter`: which part of half of its life a certificate is used for before there is the next."""
        self._jitter = jitter or spread
        self.refresh_hint = refresh_hint
        self._federation = federation
        self.trust_domain = trust_domain
        self.changes = changes
        self.clock = clock
        self.counters = Counters()
        self._gateway = gateway
        self._web_names = tuple(web_names)
        self._ttl = svid_ttl
        self._attestor = attestor
        self._registration = registration
        self._spiffe = spiffe
        self._web = web
        self._jwt = jwt
        self._recorder = recorder
        self._refusals = refusals
        self._slots: dict[str, _Slot] = {}
        self._tokens: OrderedDict[tuple[str, tuple[str, ...]], JwtSvid] = OrderedDict()
        self._delivered: OrderedDict[tuple[str, int, int], None] = OrderedDict()

    # -- who asks ------------------------------------------------------------------------------------------------

    async def identify(self, process: Process) -> tuple[Facts, list[Entry]]:
        """The caller's facts and its entries; raises Denied `no_identity` | `caller_changed`, recorded as refusals."""
        facts, entries = await self._identify(process)
        process.verify_same()
        return facts, entries

    async def _identify(self, process: Process) -> tuple[Facts, list[Entry]]:
        """What was found out a moment ago counts: who calls looks at the process again before anything is given."""
        description: dict[str, object] = {"pid": process.pid, "uid": process.uid}
        try:
            facts = await self._attestor.attest(process, wanted=self._registration.asks_for())
            description = dict(facts.description)
            entries = self._registration.matching(facts)
            if not entries:
                raise Denied(
                    "no_identity",
                    "no registration entry matches the calling process",
                    "start it under `rempart up`, or apply an entry whose selectors match: `rempart entry apply`",
                )
        except RempartError as error:
            await self._refusals.refused(process.uid, error, description)
            raise
        return facts, entries

    def concerned(self, process: Process, seen: int) -> bool:
        """May what changed since version `seen` matter to this process, by what was last found out of it?"""
        found = self._attestor.last_found(process)
        return found is None or self.changes.concerns(seen, found[1].selectors, found[0])

    async def refuse(self, process: Process, error: RempartError) -> None:
        """Record a refusal that somebody else decided."""
        await self._refusals.refused(process.uid, error, {"pid": process.pid, "uid": process.uid})

    # -- X.509 ---------------------------------------------------------------------------------------------------

    async def grant(self, process: Process) -> Grant:
        """Every X.509-SVID of the caller. Raises Denied as `identify`, Unavailable when nothing can be issued or
        recorded now."""
        facts, entries = await self._identify(process)
        svids = []
        refresh = self.clock.now() + _LOOK_AGAIN
        for entry in entries:
            slot = await self._current(entry)
            if slot.svid is not None:
                await self._deliver(slot.svid, facts, entry, kind="x509")
                svids.append(slot.svid)
                refresh = min(refresh, slot.refresh_at)
        expiry = self._registration.next_expiry()
        process.verify_same()
        return Grant(facts, tuple(entries), tuple(svids), min(refresh, expiry) if expiry else refresh)

    async def web(self, grant: Grant) -> tuple[X509Svid, float] | None:
        """The gateway's server certificate and when to ask again; None for everybody else."""
        entry = next((entry for entry in grant.entries if entry.spiffe_id == self._gateway), None)
        if entry is None:
            return None
        slot = await self._current(None)
        if slot.svid is None:
            return None
        await self._deliver(slot.svid, grant.facts, entry, kind="web")
        return slot.svid, slot.refresh_at

    async def web_certificate(self) -> X509Svid:
        """The server certificate of the gateway's names, for a listener of our own. Raises Unavailable."""
        svid = (await self._current(None)).svid
        if svid is None:
            raise Unavailable("no_issuing_authority", "there is no web certificate")
        return svid

    async def _current(self, entry: Entry | None) -> _Slot:
        """The slot of an entry (None: the web certificate) with a certificate in the first half of its life.

        While the next one is long in coming it is the one of before, until that ends: nobody waits for a server that is
        away. Raises Unavailable, and NothingValid when what there was has ended.
        """
        slot = self._slots.setdefault(entry.id if entry else "web", _Slot())
        for _ in range(_TRIES):
            now = slot.asked_at = self.clock.now()
            if self._fits(slot, entry, now):
                break
            work = slot.work
            if work is None or work.done():
                work = slot.work = asyncio.create_task(self._renew(slot, entry))
            held = slot.svid if slot.entry == entry else None
            valid = held is not None and held.leaf.not_before <= now < held.leaf.not_after
            await asyncio.wait({work}, timeout=_PATIENCE if valid else None)
            error = work.result() if work.done() else None
            if valid and (error or not work.done()):
                slot.refresh_at = min(slot.refresh_at, now) + _TRY_AGAIN
                break
            if error is not None:
                raise NothingValid(error.code, error.reason, error.remedy) if held else error
        return slot

    def _fits(self, slot: _Slot, entry: Entry | None, now: float) -> bool:
        if slot.svid is None or slot.entry != entry or now >= slot.refresh_at or slot.svid.leaf.not_before > now:
            return False
        try:
            return slot.signer == self._generation(entry)
        except Unavailable:
            return True

    def _generation(self, entry: Entry | None) -> str:
        return self._spiffe.generation if entry else self._web_authority().issuing().certificate.serial

    async def _renew(self, slot: _Slot, entry: Entry | None) -> Unavailable | None:
        try:
            generation = self._generation(entry)
            svid = await (self._sign(entry) if entry else self._sign_web())
        except Unavailable as error:
            return error
        now = self.clock.now()
        slot.svid, slot.signer, slot.entry = svid, generation, entry
        slot.refresh_at = now + (svid.leaf.not_after - now) / 2 * self._jitter()
        return None

    async def _sign(self, entry: Entry) -> X509Svid:
        key = x509.EcKey.generate()
        chain = await self._spiffe.sign(entry, key)
        self.counters.x509_issued += 1
        return X509Svid(entry.spiffe_id, entry.hint, chain, key)

    async def _sign_web(self) -> X509Svid:
        issuing, key, now = self._web_authority().issuing(), x509.EcKey.generate(), self.clock.now()
        signed = {"issuing": issuing.certificate, "issuing_key": issuing.key, "now": now, "ttl": self._ttl}
        leaf = x509.sign_server(key, self._web_names, **signed)  # type: ignore[arg-type]  # mypy joins the values of the dict
        self.counters.web_issued += 1
        return X509Svid(None, "", (leaf, *issuing.chain), key)

    def _web_authority(self) -> IssuingAuthority:
        if self._web is None:
            raise Unavailable("no_issuing_authority", "web certificates are made where the gateway is")
        return self._web

    async def _deliver(self, svid: X509Svid, facts: Facts, entry: Entry, *, kind: str) -> None:
        leaf = svid.leaf
        key = (leaf.serial, facts.pid, facts.start_time)
        if key in self._delivered:
            return
        what = {"kind": kind, "serial": leaf.serial, "not_after": leaf.not_after, "sha256": leaf.fingerprint}
        await self._recorder.record(self._issued(facts, entry, what))
        self._remember(key)

    def _remember(self, key: tuple[str, int, int]) -> None:
        self._delivered[key] = None
        self._bound(self._delivered, *_DELIVERIES_KEPT)

    def _bound(self, kept: OrderedDict[Any, Any], least: int, for_each: int, most: int) -> None:
        """The oldest go first."""
        while len(kept) > min(most, max(least, for_each * len(self._registration.entries()))):
            kept.popitem(last=False)

    def _issued(self, facts: Facts, entry: Entry, what: dict[str, object]) -> Event:
        return Event(
            type=EventType.SVID_ISSUED,
            at=self.clock.now(),
            success=True,
            workload=str(entry.spiffe_id),
            service="identity",
            details={**what, "entry": entry.id, **facts.description},
        )

    # -- JWT -----------------------------------------------------------------------------------------------------

    async def jwt_svids(self, process: Process, audiences: Sequence[str], spiffe_id: str) -> list[JwtSvid]:
        """One token per identity of the caller, or for the `spiffe_id` it asked for.

        Raises BadInput `bad_audience` | `bad_spiffe_id`, Denied as `identify` and `not_this_identity`.
        """
        wanted = check_audiences(audiences)
        asked = SpiffeId.parse(spiffe_id) if spiffe_id else None
        facts, entries = await self._identify(process)
        if asked is not None:
            entries = [entry for entry in entries if entry.spiffe_id == asked]
            if not entries:
                error = Denied("not_this_identity", f"the calling process is not {asked}")
                await self._refusals.refused(process.uid, error, facts.description)
                raise error
        tokens = []
        for entry in entries:
            tokens.append(await self._token(facts, entry, wanted))
        process.verify_same()
        return tokens

    async def _token(self, facts: Facts, entry: Entry, audiences: tuple[str, ...]) -> JwtSvid:
        """One that is kept, or a new one: recorded, like each that is given to somebody for the first time."""
        now = self.clock.now()
        key = (entry.id, audiences)
        token = self._tokens.get(key)
        fresh = token is not None and token.issued_at <= now < (token.issued_at + token.expires_at) / 2
        if token is not None and fresh and token.key_id == self._jwt.active_kid:
            self._tokens.move_to_end(key)
            given = token.token_id, facts.pid, facts.start_time
            if given not in self._delivered:
                await self._recorder.record(self._issued(facts, entry, _about(token, audiences)))
                self._remember(given)
            return token
        draft = await self._jwt.draft(entry, audiences)
        event = self._issued(facts, entry, _about(draft, audiences))
        token = self._tokens[key] = await self._recorder.record_while(event, draft.signed)
        self._tokens.move_to_end(key)
        self._bound(self._tokens, *_TOKENS_KEPT)
        self.counters.jwt_issued += 1
        self._remember((token.token_id, facts.pid, facts.start_time))
        return token

    def validate_jwt(self, token: str, audience: str, entries: Sequence[Entry]) -> tuple[SpiffeId, dict[str, Any]]:
        """For the holder of `entries`: tokens of ours, and of the domains that it federates with."""
        domain = claimed_domain(token)
        partner = next((one for one in self.bundles(entries)[1:] if one.trust_domain == domain), None)
        return (
            self._jwt.validate(token, audience)
            if partner is None
            else validate_foreign(token, audience, partner, now=self.clock.now())
        )

    # -- trust ---------------------------------------------------------------------------------------------------

    def bundle(self) -> Bundle:
        roots, keys = self._spiffe.roots, self._jwt.public_keys()
        return Bundle(self.trust_domain, roots, keys, self._jwt.sequence, self.refresh_hint)

    def bundles(self, entries: Sequence[Entry]) -> tuple[Bundle, ...]:
        """What the holder of these entries trusts: our own domain first, then those it federates with."""
        names = sorted({name for entry in entries for name in entry.federates_with})
        partners = self._federation.bundles(names) if self._federation else []
        return self.bundle(), *(
            Bundle(one.trust_domain, one.roots, one.jwt_keys, one.sequence or 0) for one in partners
        )

    def least_remaining(self) -> float | None:
        """Seconds that the certificate closest to its end, of those in use, is still valid."""
        now = self.clock.now()
        used = [slot.svid.leaf for slot in self._slots.values() if slot.svid and now - slot.asked_at < 2 * _LOOK_AGAIN]
        return min((leaf.not_after - now for leaf in used), default=None)

    def forget_unregistered(self) -> None:
        """Drop the certificates and tokens of entries that are gone."""
        known = {entry.id for entry in self._registration.entries()} | {"web"}
        self._slots = {key: slot for key, slot in self._slots.items() if key in known}
        for key in [key for key in self._tokens if key[0] not in known]:
            del self._tokens[key]


def _about(token: JwtDraft | JwtSvid, audiences: tuple[str, ...]) -> dict[str, object]:
    return {"kind": "jwt", "token_id": token.token_id, "audience": list(audiences), "not_after": token.expires_at}


def spread() -> float:
    """Certificates that were made together are not renewed together."""
    return random.uniform(0.8, 1.0)  # nosec B311 - jitter, no secret
