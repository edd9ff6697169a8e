"""The JWT bearer grant (RFC 7523 section 2.1) for workloads: a JWT-SVID buys an access token.

The JWT-SVID standard says how one is validated: signed by a key of the trust bundle, its audience this issuer, its
subject the workload, not expired. It may be presented again while it lives: that is what it is for.
"""

from __future__ import annotations

from rempart.crypto.jose import verify_jwt
from rempart.crypto.jws import Malformed, parse_compact
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Unauthenticated

from .demands import OF_PERSONS, audience_demanded, scope_demanded
from .model import Grant, Granted, TokenRequest
from .ports import TrustBundle

_MEMBERS = frozenset({"alg", "kid", "typ"})


class WorkloadAssertionGrant:
    """`issuer` of this authorization server: the audience that a JWT-SVID must have been made for."""

    grant = Grant.JWT_BEARER

    def __init__(self, bundle: TrustBundle, clock: Clock, *, issuer: str, trust_domain: str) -> None:
        self._bundle, self._clock = bundle, clock
        self._issuer, self._trust_domain = issuer, trust_domain

    async def redeem(self, request: TokenRequest) -> Granted:
        client, assertion = request.client, request.form.get("assertion", "")
        if not assertion:
            raise BadInput("invalid_request", "assertion is missing")
        jwks = await self._bundle.jwks()
        try:
            claims = verify_jwt(assertion, jwks, typ="JWT", issuer=None, audience=self._issuer, now=self._clock.now())
        except Unauthenticated as error:
            raise BadInput("invalid_grant", error.reason.replace("access token", "assertion")) from None
        if claims.get("aud") not in (self._issuer, [self._issuer]):
            raise BadInput("invalid_grant", "the assertion is for others, too: ask for one audience")
        if not client.spiffe_id or claims.get("sub") != client.spiffe_id:
            raise BadInput("invalid_grant", "the assertion is not this client's")
        allowed = [scope for scope in client.scopes if scope not in OF_PERSONS]
        return Granted(
            account=None,
            scope=scope_demanded(request.form, allowed, allowed),
            audience=audience_demanded(request.form, client, self._trust_domain),
        )


def claimed_subject(assertion: str) -> str:
    """The SPIFFE ID that an unverified assertion claims, "" for none: only to know which client to ask for."""
    try:
        subject = parse_compact(assertion, _MEMBERS, ("ES256", "RS256", "EdDSA")).claims().get("sub")
    except Malformed:
        return ""
    return subject if isinstance(subject, str) and subject.startswith("spiffe://") else ""
