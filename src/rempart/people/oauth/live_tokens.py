"""Whether an access token still stands: what its signature can't tell.

A token falls with its account (disabled, or of a later epoch), with its family or session, with its client (deleted),
and by itself (RFC 7009). Its `jti` is remembered as revoked until it would have expired.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Protocol

from starlette.requests import Request

from rempart.crypto.jose import Claims
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Unauthenticated
from rempart.people.access_tokens import AccessTokens
from rempart.people.model import FIRST_PARTY, Account
from rempart.people.ports import AccountStore, OnceStore, RefreshStore

from .clients import Clients
from .dpop import Dpop

_KIND = "revoked-token"


class Sessions(Protocol):
    """`people.sessions.service.Sessions`."""

    async def alive(self, session_id: str) -> object | None: ...


class Ends(Protocol):
    """Who tells the enforcement points that a token is over."""

    async def end(self, id: str, subject: str, now: float) -> None:
        """Durable when it returns."""


class LiveTokens:
    def __init__(
        self,
        tokens: AccessTokens,
        accounts: AccountStore,
        families: RefreshStore,
        once: OnceStore,
        clients: Clients,
        sessions: Sessions,
        ends: Ends,
        clock: Clock,
    ) -> None:
        self._ends, self._clock = ends, clock
        self._tokens, self._accounts, self._families = tokens, accounts, families
        self._once, self._clients, self._sessions = once, clients, sessions

    async def read(self, token: str) -> tuple[Claims, Account | None]:
        """A token that stands, for any audience; the account it speaks for, None where a client acts for itself.

        Whether the caller proved the key in `cnf` is not asked here. Raises Unauthenticated `invalid_token`.
        """
        claims = self._tokens.read(token)
        client_id = claims.raw.get("client_id")
        if client_id != FIRST_PARTY:
            since = await self._clients.tokens_from(client_id) if isinstance(client_id, str) else None
            if since is None or claims.issued_at < int(since):  # `clients.after`: never a tie
                raise _dead("its client is gone, or its certificate")
        if await self._once.peek(_KIND, _key(claims.token_id)) is not None:
            raise _dead("it was revoked")
        session = claims.raw.get("sid", "")
        if isinstance(session, str) and session.startswith("fam_"):
            found = await self._families.find(session)
            if found is None or found[0].revoked_at is not None:
                raise _dead("its session is over")
        if isinstance(session, str) and session.startswith("ses_") and await self._sessions.alive(session) is None:
            raise _dead("its session is over")
        if claims.subject == client_id:
            return claims, None
        account = await self._accounts.get(claims.subject)
        if account is None or account.disabled:
            raise _dead("the account is gone or disabled")
        if claims.raw.get("epoch", 0) != account.epoch:
            raise _dead("it was superseded")
        return claims, account

    async def revoke(self, claims: Claims) -> bool:
        """Remember that it was revoked; False when that was known."""
        await self._ends.end(claims.token_id, claims.subject, self._clock.now())
        return await self._once.put(_KIND, _key(claims.token_id), b"", claims.expires_at + 60)


async def check_possession(
    request: Request, claims: Mapping[str, Any], token: str, dpop: Dpop, certificate: str
) -> None:
    """That a bound token comes with its key (RFC 9449 section 7.1, RFC 8705 section 3); `token` is what the header
    carried, `certificate` the thumbprint of the certificate that the request came with.

    Raises Unauthenticated `invalid_token`, BadInput `invalid_dpop_proof` or `use_dpop_nonce`.
    """
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    bound = claims.get("cnf")
    jkt = bound.get("jkt") if isinstance(bound, Mapping) else None
    x5t = bound.get("x5t#S256") if isinstance(bound, Mapping) else None
    if isinstance(x5t, str) and jkt is None and scheme == "bearer":
        if not hmac.compare_digest(certificate.encode(), x5t.encode("utf-8", "replace")):
            raise _dead("it is bound to a certificate that it did not come with")
        return
    if jkt is None:
        if scheme == "dpop" or bound is not None:
            raise _dead("it is not bound to a key that can be proved here")
        return
    if scheme != "dpop":
        raise _dead("it is bound to a key: a DPoP proof is needed")
    proved = await dpop.proved(request, token)
    if not proved:
        raise BadInput("invalid_dpop_proof", "a DPoP proof is needed", "send one in the header DPoP")
    if proved != jkt:
        raise _dead("it is bound to another key")


def _key(token_id: str) -> bytes:
    return hashlib.sha256(token_id.encode()).digest()


def _dead(why: str) -> Unauthenticated:
    return Unauthenticated("invalid_token", f"the access token is not valid: {why}", "get a new one")
