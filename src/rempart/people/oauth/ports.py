"""What this room needs of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rempart.crypto.jose import Jwks
from rempart.people.model import Authenticated, Origin

from .model import Client, Granted, TokenRequest


class ClientStore(Protocol):
    """Durable clients; all methods raise Unavailable `store_unavailable`."""

    async def add(self, client: Client) -> Client:
        """As it is kept: created `clients.after` the last deletion of one of the same id at the earliest, as long as
        that is remembered. Raises Conflict `client_exists`."""

    async def get(self, client_id: str) -> Client | None: ...

    async def ended_at(self, client_id: str) -> float:
        """When one of this id was deleted, or tokens of this one ended with a certificate; 0 for not lately."""

    async def by_spiffe_id(self, spiffe_id: str) -> Client | None:
        """The client that this workload is, if there is exactly one."""

    async def any_with(self, grant: str) -> bool:
        """Whether some client may use this grant type."""

    async def page(self, after: str, limit: int) -> Sequence[Client]:
        """In the order of ids, from the first one greater than `after`."""

    async def replace(self, old: Client, new: Client) -> bool:
        """False where it is not as `old` any more. Both have one id."""

    async def delete(self, client_id: str, now: float) -> bool:
        """When it was is remembered for as long as tokens live: the gateway is told."""


class GrantHandler(Protocol):
    """One grant type of the token endpoint. `grant` is its registered name."""

    @property
    def grant(self) -> str: ...

    async def redeem(self, request: TokenRequest) -> Granted:
        """Raises BadInput with an OAuth error as code: `invalid_grant`, `invalid_scope`, `invalid_request`, or
        `authorization_pending`, `slow_down`, `access_denied`, `expired_token` (RFC 8628). Who raises counts the
        refusal as recorded by the endpoint.
        """


class TrustBundle(Protocol):
    """The keys of the trust domain's JWT-SVIDs."""

    async def jwks(self) -> Jwks:
        """Raises Unavailable `bundle_unavailable`."""


class PasswordLogin(Protocol):
    """The one way in with a password, for a door that can't ask for a second factor afterwards."""

    async def prove(self, email: str, password: str, otp: str | None, origin: Origin) -> Authenticated:
        """Raises Unauthenticated `login_failed`, Throttled."""
