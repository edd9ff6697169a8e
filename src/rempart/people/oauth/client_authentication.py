"""Which client sends a request, and how it proves that: RFC 6749 section 2.3, RFC 7523, RFC 8705.

How a client is authenticated, numbered here and tagged where it is done:
 1. exactly one method is used, and it says which client;
 2. that client is registered, and for this method;
 3. the proof is right: the secret, the assertion, or the certificate that it came with, which nobody revoked;
 4. a DPoP proof, where there is one, is right; where the client or the profile demands a bound token, there is one.
A refusal is recorded, and says the same whether or not the client exists.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from starlette.requests import Request

from rempart.crypto.client_chain import Link
from rempart.crypto.jws import Compact, Malformed
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Unauthenticated
from rempart.kernel.event import Event, EventType, Severity
from rempart.people.collapse import Collapse
from rempart.people.model import Origin

from .certificates import ClientCertificates
from .client_assertions import TYPE, ClientAssertions
from .clients import Clients
from .dpop import Dpop
from .guesses import SecretGuesses
from .model import BY_CERTIFICATE, SECRETS, Binding, Client, Method
from .revocations import Revocations

_NOBODY = bytes(32)
_NO_CERTIFICATE = "no certificate of this client"


@dataclass(frozen=True, slots=True)
class _Presented:
    """What the request brings to prove which client sends it."""

    method: Method | None
    client_id: str
    secret: str = ""
    assertion: tuple[Compact, dict[str, Any]] | Malformed | None = None


class ClientAuthentication:
    """`gateway` is the SPIFFE ID whose certificate proves nobody: everybody comes through it."""

    def __init__(
        self,
        clients: Clients,
        assertions: ClientAssertions,
        dpop: Dpop,
        guesses: SecretGuesses,
        refusals: Collapse,
        clock: Clock,
        certificates: ClientCertificates,
        revocations: Revocations,
        *,
        gateway: str,
        issuer: str,
    ) -> None:
        self._clients, self._assertions, self._dpop, self._guesses = clients, assertions, dpop, guesses
        self._refusals, self._clock, self._gateway = refusals, clock, gateway
        self._certificates, self._revocations = certificates, revocations
        parts = urlsplit(issuer)
        self._base = f"{parts.scheme}://{parts.netloc}"

    async def authenticate(self, request: Request, form: Mapping[str, str], origin: Origin) -> tuple[Client, Binding]:
        """Raises Unauthenticated `invalid_client`, BadInput `invalid_request`, `invalid_dpop_proof`, `use_dpop_nonce`,
        Throttled `too_many_failures`, Unavailable."""
        client = await self.client(request, form, origin)
        return client, await self.binding(request, client, origin)

    async def client(self, request: Request, form: Mapping[str, str], origin: Origin) -> Client:
        """Steps 1 to 3."""
        presented = self._presented(request, form)
        if presented.method is None and not presented.client_id:
            raise await self._refused("no client is named", "", origin)
        client = await self._clients.get(presented.client_id)
        if presented.method in SECRETS:
            attempt = await self._guesses.begin(presented.client_id, origin.network)
            why = self._wrong_secret(client, presented)
            await (attempt.failed() if why else attempt.succeeded())
        else:
            why = await self._why_not(client, presented, request, origin)
        if client is None or why:
            raise await self._refused(why, presented.client_id, origin)
        return client

    async def binding(self, request: Request, client: Client, origin: Origin) -> Binding:
        """Step 4."""
        jkt = await self._dpop.proved(request)
        if jkt:
            return Binding(jkt=jkt)
        if client.dpop_bound:
            raise BadInput("invalid_dpop_proof", "this client's tokens are bound to a key", "send a DPoP proof")
        demanded = client.certificate_bound or (self._clients.profile.bound_only and not client.first_party)
        if not demanded:
            return Binding()
        x5t = self._certificates.thumbprint(request, origin)
        if not x5t:
            raise BadInput("invalid_dpop_proof", "tokens are bound to a key here", "send a DPoP proof, or use mTLS")
        return Binding(x5t=x5t)

    def named(self, request: Request, form: Mapping[str, str]) -> bool:
        """Whether the request says anything of a client."""
        return "authorization" in request.headers or any(name.startswith("client_") for name in form)

    def _presented(self, request: Request, form: Mapping[str, str]) -> _Presented:
        found: list[_Presented] = []
        header = request.headers.get("authorization")
        if header is not None:
            found.append(_basic(header))
        if "client_secret" in form:
            found.append(_Presented(Method.SECRET_POST, form.get("client_id", ""), secret=form["client_secret"]))
        if "client_assertion" in form or "client_assertion_type" in form:
            found.append(self._asserted(form))
        if len(found) > 1:
            raise BadInput("invalid_request", "the client authenticates in more than one way", "use one")  # step 1
        if not found:
            return _Presented(None, form.get("client_id", ""))
        if form.get("client_id", found[0].client_id) != found[0].client_id:
            raise BadInput("invalid_request", "client_id names another client than the one that authenticates")
        return found[0]

    def _asserted(self, form: Mapping[str, str]) -> _Presented:
        assertion = form.get("client_assertion", "")
        if form.get("client_assertion_type") != TYPE or not assertion:
            raise BadInput("invalid_request", "client_assertion and its type go together", f"the type is {TYPE}")
        try:
            read = self._assertions.read(assertion)
        except Malformed as error:
            return _Presented(Method.PRIVATE_KEY_JWT, form.get("client_id", ""), assertion=error)
        claimed = read[1].get("sub")
        named = claimed if isinstance(claimed, str) else form.get("client_id", "")
        return _Presented(Method.PRIVATE_KEY_JWT, named, assertion=read)

    async def _why_not(self, client: Client | None, presented: _Presented, request: Request, origin: Origin) -> str:
        """ "" for yes, without a secret."""
        method = presented.method
        if client is None:
            return _unfit(client)
        if method is Method.PRIVATE_KEY_JWT:
            if client.method is not Method.PRIVATE_KEY_JWT:
                return _unfit(client)
            if not isinstance(presented.assertion, tuple):
                return f"assertion: {presented.assertion}"
            try:
                await self._assertions.verify(client, *presented.assertion, self._base + request.scope["path"])
            except Malformed as error:
                return f"assertion: {error}"
            return ""
        if client.method in BY_CERTIFICATE:
            return await self._wrong_certificate(client, request, origin)
        return "" if client.public else _unfit(client)

    def _wrong_secret(self, client: Client | None, presented: _Presented) -> str:
        """ "" for yes. The secret is hashed and compared for an unknown client, too."""
        fit = client is not None and client.method in SECRETS
        kept = client.secret_hash if client is not None and fit else _NOBODY
        right = hmac.compare_digest(self._clients.hash(presented.secret), kept)
        if fit:
            return "" if right else "wrong secret"
        return _unfit(client)

    async def _wrong_certificate(self, client: Client, request: Request, origin: Origin) -> str:
        """ "" for yes. A workload's identity is the mesh's to revoke."""
        if client.spiffe_id:
            theirs = origin.workload == client.spiffe_id and origin.workload != self._gateway
            return "" if theirs else _NO_CERTIFICATE
        if client.certificate_subject:
            path = self._certificates.named(request, origin, client.certificate_subject)
        else:
            thumbprint = self._certificates.thumbprint(request, origin)
            theirs = hmac.compare_digest(thumbprint, client.certificate)
            path = (Link(base64.urlsafe_b64decode(thumbprint + "=")),) if theirs and thumbprint else ()
        if not path:
            return _NO_CERTIFICATE
        why = await self._revocations.why_not(path)
        if not why:
            await self._revocations.see(client.id, path)
        return why

    async def _refused(self, why: str, client_id: str, origin: Origin) -> Unauthenticated:
        event = origin.stamp(
            Event(
                type=EventType.CLIENT_REFUSED,
                at=self._clock.now(),
                success=False,
                severity=Severity.LOW,
                reason=why,
                details={"client": client_id[:64]},
            )
        )
        await self._refusals.record(event, origin.network, client_id[:64])
        return Unauthenticated("invalid_client", "the client is unknown or didn't prove itself", "see its registration")


def _basic(header: str) -> _Presented:
    """RFC 7617, and RFC 6749 section 2.3.1: both halves are form-encoded first."""
    scheme, _, text = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        name, colon, secret = base64.b64decode(text.strip(), validate=True).decode("utf-8", "strict").partition(":")
        if not colon:
            raise ValueError
        return _Presented(
            Method.SECRET_BASIC, unquote_plus(name, errors="strict"), secret=unquote_plus(secret, errors="strict")
        )
    except (ValueError, binascii.Error):
        raise Unauthenticated("invalid_client", "the authorization header is not Basic credentials") from None


def _unfit(client: Client | None) -> str:
    return "unknown client" if client is None else f"not its method: it is registered for {client.method}"
