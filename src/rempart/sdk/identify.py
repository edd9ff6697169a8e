"""Who asks, out of what the sidecar says and the token proves: the one check under `Protect` and the gRPC interceptor.

What it relies on: only the sidecar can reach the application's unix socket, and the sidecar overwrites the identity
headers. What it checks all the same (requirement G2): each identity header comes once, the caller's SPIFFE ID is one,
the token's signature, issuer, audience and expiry are right, and the token speaks of the person that the sidecar let
in. Without these there is no answer but a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from rempart.kernel.errors import BadInput, Unauthenticated, Unavailable
from rempart.kernel.ids import new_id
from rempart.kernel.principal import Person
from rempart.kernel.spiffe import SpiffeId

from .identity import Caller
from .workload import Workload

if TYPE_CHECKING:
    from .http import ServiceClient

_ONCE = ("x-spiffe-id", "x-rempart-subject", "x-rempart-role", "x-rempart-decision", "x-request-id", "authorization")


class Verifier(Protocol):
    async def verify(self, token: str) -> Any:
        """`rempart.crypto.jose.Claims`; raises Unauthenticated or Unavailable."""


class IdentityHeaders:
    """What one request says about its caller. Names are lower case, as ASGI and gRPC have them."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._found: dict[str, list[str]] = {name: [] for name in (*_ONCE, "traceparent")}
        for name, value in pairs:
            if name in self._found:
                self._found[name].append(value)
        self.request_id = self.get("x-request-id")[:128] or new_id("req")
        self.decision_id = self.get("x-rempart-decision")

    def get(self, name: str) -> str:
        return (self._found[name] or [""])[0]

    async def caller(self, verifier: Identifier) -> Caller:
        """Raises BadInput `duplicate_header`, Unauthenticated `no_workload`, `invalid_token`, `identity_mismatch`."""
        for name in _ONCE:
            if len(self._found[name]) > 1:
                raise BadInput("duplicate_header", f"the header {name} is given {len(self._found[name])} times")
        if not self.get("x-spiffe-id"):
            raise Unauthenticated(
                "no_workload", "the request didn't come by the sidecar", "call the service through Rempart"
            )
        try:
            workload = SpiffeId.parse(self.get("x-spiffe-id"))
        except BadInput as error:
            raise Unauthenticated("no_workload", error.reason) from None
        person, claims = None, {}
        authorization = self.get("authorization")
        if authorization:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() not in ("bearer", "dpop") or not token:
                raise Unauthenticated(
                    "invalid_token", "the authorization isn't a bearer token", "log in, send the token"
                )
            verified = await verifier.verify(token.strip(" "))
            if ("cnf" in verified.raw) != (scheme.lower() == "dpop"):  # the gateway has seen the proof of its key
                raise Unauthenticated("invalid_token", "a token bound to a key is no bearer token", "send it as DPoP")
            person, claims = Person(verified.subject, verified.role), verified.raw
        for name, ours in (
            ("x-rempart-subject", person and person.subject),
            ("x-rempart-role", person and person.role),
        ):
            if self._found[name] and self.get(name) != (ours or ""):
                raise Unauthenticated("identity_mismatch", f"{name} and the token speak of different people")
        trace = self.get("traceparent")
        return Caller(workload, person, claims, self.request_id, self.decision_id, trace, authorization)


class Identifier:
    """`verifier` defaults to the keys that `people` publishes, by this service's own sidecar; made when needed."""

    def __init__(self, verifier: Verifier | None = None) -> None:
        self._verifier = verifier

    async def verify(self, token: str) -> Any:
        if self._verifier is None:
            self._verifier = published_keys_verifier()
        return await self._verifier.verify(token)


def published_keys_verifier(people: ServiceClient | None = None) -> Verifier:
    """Verifies with the keys at people's `/auth/jwks.json`; `people` must be among the service's `calls`."""
    from .http import ServiceClient
    from .tokens import PublishedKeys, TokenVerifier

    me = Workload.from_environment()
    if not me.issuer:
        raise Unavailable("keys_unavailable", "REMPART_ISSUER is not set, so no token can be trusted")
    keys = PublishedKeys((people or ServiceClient("people")).get_bytes)
    return TokenVerifier(keys, issuer=me.issuer, audience=me.trust_domain)
