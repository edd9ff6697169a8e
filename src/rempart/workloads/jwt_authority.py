"""JWT-SVIDs: keys, issuing and validation (JWT-SVID standard; SPIFFE Workload API section 6).

Keys are ES256 and their private halves live in memory only. A key is published before it signs, so that validators know
it by then (only the first key after a start must sign at once), and stays published until its last token has expired,
over restarts too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rempart.crypto.jose import Jwks, SigningKey, read_compact, verify_jwt
from rempart.crypto.jws import Malformed
from rempart.crypto.x509 import Certificate
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, RempartError, Unauthenticated
from rempart.kernel.ids import new_id
from rempart.kernel.spiffe import SpiffeId

from .model import Bundle, Entry, JwtDraft, JwtSvid, PublishedKey
from .ports import BundleStore

TOKEN_TTL = 300.0
MAX_TOKEN_TTL = 3600.0
"""However long an entry wants them."""
MAX_AUDIENCES = 8
MAX_AUDIENCE = 512
_TYPE = "JWT"
_TYPES = (_TYPE, "JOSE", None)
"""What others may set (JWT-SVID section 2.3); ours say JWT."""
_REGISTERED = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti"})
_MARGIN = 60.0


@dataclass(frozen=True, slots=True)
class _Key:
    signing: SigningKey = field(repr=False)
    activates_at: float
    rotate_at: float
    until: float


def _active(keys: Sequence[_Key], now: float) -> _Key:
    return ([key for key in keys if key.activates_at <= now] or keys[:1])[-1]


def check_audiences(audiences: Sequence[str]) -> tuple[str, ...]:
    """Sorted, without repeats; raises BadInput `bad_audience`."""
    wanted = tuple(sorted(set(audiences)))
    if not wanted or len(wanted) > MAX_AUDIENCES or not all(0 < len(a) <= MAX_AUDIENCE for a in wanted):
        raise BadInput(
            "bad_audience",
            f"a JWT-SVID is for 1 to {MAX_AUDIENCES} audiences of 1 to {MAX_AUDIENCE} characters",
            "name who the token is for",
        )
    return wanted


class JwtAuthority:
    """`issuer` is where its discovery document is, else the trust domain. `key_ttl` in seconds: a new key is published
    at half of it and signs a tenth of it later. `roots` are this server's, published beside its keys. One event loop.
    """

    def __init__(
        self,
        trust_domain: str,
        store: BundleStore,
        roots: Sequence[Certificate],
        clock: Clock,
        *,
        key_ttl: float,
        issuer: str = "",
    ) -> None:
        self._trust_domain = trust_domain
        self._issuer = issuer or f"spiffe://{trust_domain}"
        self._store = store
        self._roots = tuple(roots)
        self._clock = clock
        self._key_ttl = key_ttl
        self._keys: list[_Key] = []
        self._changing = asyncio.Lock()

    @property
    def sequence(self) -> int:
        return self._store.sequence

    def public_keys(self) -> tuple[Mapping[str, Any], ...]:
        """Of every server of the trust domain."""
        others = self._store.others.keys
        ours = [key.jwk for key in self._store.keys]
        return tuple(sorted((*ours, *others), key=lambda jwk: str(jwk["kid"]))) if others else tuple(ours)

    def roots_told(self) -> tuple[str, ...]:
        """Fingerprints of this server's roots, as every server tells its workloads."""
        return self._store.told()

    async def advance(self, *, at_once: bool = False) -> bool:
        """Make, activate and forget keys as their times come; True when the bundle changed. Durable when it returns.

        `at_once` makes a new key sign as soon as all servers know it: when the operator rotates. Raises Unavailable
        when what is new can't be stored; then the keys there are stay.
        """
        async with self._changing:
            now = self._clock.now()
            keys = [key for key in self._keys if key.until > now]  # after a clock that jumped it may be all of them
            newest = keys[-1] if keys else None
            added: list[PublishedKey] = []
            if newest is None or at_once or now >= newest.rotate_at:
                lead = 0.0 if newest is None else self._store.lead if at_once else self._key_ttl / 10
                made, published_key = self._make(now, lead)
                keys.append(made)
                added.append(published_key)
            active = _active(keys, now)
            keys = [key for key in keys if key is active or key.activates_at > now]  # retired: forgotten
            published = tuple(key for key in (*self._store.keys, *added) if key.until > now)
            changed = published != self._store.keys
            if changed:
                await self._store.save(roots=self._roots, keys=published)
            self._keys = keys
            return changed

    async def replace_compromised(self, lead: float) -> float:
        """Another key signs after `lead` seconds, in which validators learn it, and as long after that the others are
        gone; when that is (seconds since the epoch). Durable when it returns. Call `advance` at both moments."""
        async with self._changing:
            now = self._clock.now()
            gone_at = now + 2 * lead
            made, added = self._make(now, lead)
            kept = tuple(PublishedKey(key.jwk, min(key.until, gone_at)) for key in self._store.keys)
            await self._store.save(roots=self._roots, keys=(*kept, added))
            self._keys = [_active(self._keys, now), made]
            return gone_at

    def _make(self, now: float, lead: float) -> tuple[_Key, PublishedKey]:
        signing = SigningKey.generate("ES256")
        until = now + self._key_ttl + MAX_TOKEN_TTL + _MARGIN
        jwk = {name: str(value) for name, value in signing.public_jwk().items()}
        return _Key(signing, now + lead, now + self._key_ttl / 2, until), PublishedKey(jwk, until)

    @property
    def adopted(self) -> frozenset[str]:
        """Ids of keys of systems that the trust domain moves away from: their tokens have issuers of their own."""
        return self._store.others.adopted

    @property
    def active_kid(self) -> str:
        return str(_active(self._keys, self._clock.now()).signing.kid)

    async def show_roots(self, roots: Sequence[Certificate]) -> None:
        """The X.509 roots beside the keys: the sequence counts them too. Durable when it returns."""
        async with self._changing:
            await self._store.save(roots=roots, keys=self._store.keys)
            self._roots = tuple(roots)

    def describe(self) -> dict[str, object]:
        """For the admin API: `{kind, active, keys: [{kid, until}]}`."""
        keys = [{"kid": key.jwk["kid"], "until": key.until} for key in self._store.keys]
        return {"kind": "jwt", "active": self.active_kid if self._keys else None, "keys": keys}

    def sign(self, entry: Entry, audiences: tuple[str, ...]) -> JwtSvid:
        return self._draft(entry, audiences).signed()

    async def draft(self, entry: Entry, audiences: tuple[str, ...]) -> JwtDraft:
        """As the port `JwtSigner` has it."""
        return self._draft(entry, audiences)

    def _draft(self, entry: Entry, audiences: tuple[str, ...]) -> JwtDraft:
        """Sections 3 and 4: `sub`, `aud`, `exp`; no claim that a workload could have chosen but the audience."""
        now = self._clock.now()
        ttl = min(entry.jwt_ttl or TOKEN_TTL, MAX_TOKEN_TTL)
        token_id = new_id("jwt")
        claims = {
            "iss": self._issuer,
            "sub": str(entry.spiffe_id),
            "aud": list(audiences) if len(audiences) > 1 else audiences[0],
            "iat": int(now),
            "exp": int(now + ttl),
            "jti": token_id,
        }
        key = _active(self._keys, now).signing
        times = now, float(int(now + ttl))
        return JwtDraft(
            entry.spiffe_id, entry.hint, token_id, *times, str(key.kid), lambda: key.sign(claims, typ=_TYPE)
        )

    def validate(self, token: str, audience: str) -> tuple[SpiffeId, dict[str, Any]]:
        """The SPIFFE ID and all claims; raises Unauthenticated `invalid_jwt_svid` with why, BadInput `bad_audience`."""
        issuer = None if claimed_kid(token) in self.adopted else self._issuer
        return validate_token(token, audience, self.public_keys(), self._trust_domain, issuer, self._clock.now())


def validate_foreign(token: str, audience: str, bundle: Bundle, *, now: float) -> tuple[SpiffeId, dict[str, Any]]:
    """The same by another trust domain's bundle. Its issuer is its own affair; of its claims only those that the
    standard defines are passed on, for what others mean is known over there."""
    spiffe_id, claims = validate_token(token, audience, bundle.jwt_keys, bundle.trust_domain, None, now)
    return spiffe_id, {name: value for name, value in claims.items() if name in _REGISTERED}


def claimed_kid(token: str) -> str:
    """Which key a token says that it is signed by, unverified; empty when it doesn't."""
    try:
        return str(read_compact(token).header.get("kid", ""))
    except (RempartError, Malformed):
        return ""


def claimed_domain(token: str) -> str:
    """Whose a token says that it is, unverified, to choose the keys that it is verified by; empty when it doesn't."""
    try:
        subject = read_compact(token).claims().get("sub")
        return SpiffeId.parse(subject if isinstance(subject, str) else "").trust_domain
    except (RempartError, Malformed):
        return ""


def validate_token(
    token: str, audience: str, keys: Sequence[Mapping[str, Any]], trust_domain: str, issuer: str | None, now: float
) -> tuple[SpiffeId, dict[str, Any]]:
    """Against the keys of `trust_domain`; raises as `JwtAuthority.validate`."""
    check_audiences([audience])
    try:
        jwks = Jwks.parse({"keys": [dict(jwk) for jwk in keys]})
        typ = read_compact(token).header.get("typ")
        if typ not in _TYPES or (issuer is not None and typ != _TYPE):
            raise Unauthenticated("invalid_token", f"wrong type: typ is {str(typ)[:40]}")
        claims = verify_jwt(token, jwks, typ=typ, issuer=issuer, audience=audience, now=now)
        subject = claims.get("sub")
        spiffe_id = SpiffeId.parse(subject if isinstance(subject, str) else "")
    except Malformed as error:
        raise Unauthenticated("invalid_jwt_svid", f"the JWT-SVID is refused: {error}", "fetch a new one") from None
    except RempartError as error:
        why = error.reason.removeprefix("the access token is not valid: ")
        raise Unauthenticated("invalid_jwt_svid", f"the JWT-SVID is refused: {why}", "fetch a new one") from None
    if spiffe_id.trust_domain != trust_domain or not spiffe_id.path:
        raise Unauthenticated("invalid_jwt_svid", "the JWT-SVID is refused: its subject is of another trust domain")
    return spiffe_id, claims
