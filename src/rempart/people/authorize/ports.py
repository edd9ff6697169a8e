"""What this room needs of others; `servers/people_authorize.py` fits the rooms to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request

from rempart.crypto.jose import Claims

from ..model import Account, Origin, RefreshFamily
from ..oauth.model import Client
from .model import Consent


class Clients(Protocol):
    async def get(self, client_id: str) -> Client | None: ...


class ClientAuthentication(Protocol):
    async def client(self, request: Request, form: Mapping[str, str], origin: Origin) -> Client:
        """RFC 6749 section 2.3. Raises Unauthenticated `invalid_client`, BadInput, Throttled."""


class KeyProofs(Protocol):
    async def proved(self, request: Request) -> str:
        """The thumbprint of the DPoP key that the request proves, "" without a proof (RFC 9449). Raises BadInput."""

    def nonce(self) -> str:
        """For the answer's header `DPoP-Nonce`."""


class Bearers(Protocol):
    async def person(self, request: Request, origin: Origin, *, scope: str = "") -> tuple[Claims, Account]:
        """Whose access token the request presents: for the trust domain, or with `scope` in it for anybody.

        Raises Unauthenticated `missing_token`, `invalid_token`.
        """


class SignedIn(Protocol):
    """A session that is alive; `id` is public, the `sid` of tokens."""

    @property
    def id(self) -> str: ...
    @property
    def account_id(self) -> str: ...
    @property
    def amr(self) -> tuple[str, ...]: ...
    @property
    def auth_time(self) -> float: ...


class Sessions(Protocol):
    async def current(self, request: Request, origin: Origin) -> SignedIn | None:
        """The session of the request's cookie, when it is alive."""

    async def alive(self, session_id: str) -> SignedIn | None: ...

    async def end(self, session_id: str, why: str, origin: Origin) -> bool: ...


class AccountReader(Protocol):
    async def peek(self, account_id: str) -> Account | None: ...


class AccountFinder(Protocol):
    async def find(self, reference: str) -> Account:
        """By id or e-mail address. Raises NotFound `no_such_account`."""


class Families(Protocol):
    """Part of `people.ports.RefreshStore`."""

    async def revoke(self, family_id: str, why: str, now: float) -> RefreshFamily | None: ...

    async def revoke_all(
        self, account_id: str, why: str, now: float, *, client_id: str | None = None, session_id: str | None = None
    ) -> int: ...


class ConsentStore(Protocol):
    """Durable; all raise Unavailable `store_unavailable`."""

    async def get(self, account_id: str, client_id: str) -> Consent | None: ...

    async def put(self, consent: Consent) -> None:
        """Replaces what was there for this account and client."""

    async def of_account(self, account_id: str) -> Sequence[Consent]: ...

    async def delete(self, account_id: str, client_id: str) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A logout that a client must be told. `attempts` were made before this one."""

    id: str
    client_id: str
    session_id: str
    account_id: str
    attempts: int


class LogoutStore(Protocol):
    """Which clients took part in a session, and which of them are still to be told that it ended. Durable."""

    async def joined(self, session_id: str, client_id: str, account_id: str, epoch: int, until: float) -> None:
        """`epoch` as the account has it now; `until`: when this may be forgotten. Idempotent."""

    async def ended(self, session_id: str, now: float) -> int:
        """Queue a delivery for each client that joined; how many. A second call queues none."""

    async def superseded(self, since: float, now: float) -> int:
        """As `ended`, for sessions whose account changed at or after `since` and is disabled or of a later epoch."""

    async def due(self, now: float, lease: float, limit: int) -> Sequence[Delivery]:
        """Deliveries whose time has come: nobody else gets them for `lease` seconds; counts as an attempt."""

    async def done(self, delivery_id: str) -> None: ...

    async def again(self, delivery_id: str, at: float) -> None: ...

    async def sweep(self, now: float) -> int: ...


class LogoutSender(Protocol):
    async def post(self, uri: str, logout_token: str) -> bool:
        """Whether the client took it (2xx). Never raises, follows no redirect, takes a few seconds at most."""


class Attempt(Protocol):
    async def succeeded(self) -> None: ...

    async def failed(self) -> None: ...

    async def abandoned(self) -> None: ...


class Guesses(Protocol):
    async def begin(self, account: str, network: str) -> Attempt:
        """Raises Throttled, Unavailable."""
