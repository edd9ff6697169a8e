"""Sessions of tools over HTTP: an opaque token to keep, short access tokens for it, and a person's list of them all.

The token comes as `Authorization: Session TOKEN`; with a DPoP proof at its beginning it is bound to that key (RFC 9449:
`ath` is the hash of the session's token), and dies with the first use that doesn't prove it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Denied, Unauthenticated
from rempart.kernel.event import Event, EventType, Recorder

from ..access_tokens import SESSION, AccessTokens
from ..accounts import Accounts, Actor
from ..api import Bearers, LoginBody
from ..factors.model import SecondFactorNeeded
from ..login import Logins
from ..login_record import login_failed
from ..model import FIRST_PARTY, Account, Origin
from ..requests import KeyProofNeeded, Origins, no_store, read_json
from .everywhere import Everywhere
from .model import Kind, Session
from .service import Sessions


class KeyProofs(Protocol):
    """`people.oauth.dpop.Dpop`."""

    def nonce(self) -> str: ...

    async def proved(self, request: Request, access_token: str | None = None) -> str: ...


class SessionBody(LoginBody, frozen=True):
    kind: Literal["api", "cli"] = "cli"


class SessionsFace:
    """`bound_only`: the security profile wants every session of a tool bound to a key."""

    def __init__(
        self,
        sessions: Sessions,
        everywhere: Everywhere,
        accounts: Accounts,
        logins: Logins,
        access: AccessTokens,
        proofs: KeyProofs,
        bearers: Bearers,
        origins: Origins,
        recorder: Recorder,
        clock: Clock,
        *,
        bound_only: bool,
    ) -> None:
        self._sessions, self._everywhere, self._accounts, self._logins = sessions, everywhere, accounts, logins
        self._access, self._proofs, self._bearers, self._origins = access, proofs, bearers, origins
        self._recorder, self._clock, self._bound_only = recorder, clock, bound_only

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/auth/sessions", self.open, methods=["POST"]),
            Route("/auth/sessions", self.list, methods=["GET"]),
            Route("/auth/sessions", self.end_all, methods=["DELETE"]),
            Route("/auth/sessions/token", self.token, methods=["POST"]),
            Route("/auth/sessions/current", self.end_current, methods=["DELETE"]),
            Route("/auth/sessions/{id}", self.end, methods=["DELETE"]),
        ]

    async def open(self, request: Request) -> Response:
        """As `POST /login`, and the answer is a session."""
        body, origin = await read_json(request, SessionBody), self._origins.of(request)
        key = await self._proved(request, None)
        if self._bound_only and not key:
            raise self._unproved("a DPoP proof is needed: sessions are bound to a key here")
        found = await self._logins.authenticate(
            body.email, body.password, body.otp, body.device, origin, in_steps=False
        )
        if isinstance(found, SecondFactorNeeded):
            raise login_failed()
        opened = await self._sessions.open(found, Kind(body.kind), origin, key=key or None)
        device = self._logins.remember(found.account)
        document = {"session": opened.token, **opened.session.public(), "device": device}
        return JSONResponse(document, 201, headers=no_store())

    async def token(self, request: Request) -> Response:
        """A short access token of the session's own person; bound to its key only where the profile wants that, since
        a bound one is no bearer token and opens nothing at services behind the gateway."""
        origin = self._origins.of(request)
        session, account = await self._current(request, origin)
        bound = {"jkt": session.key} if session.key and self._bound_only else None
        await self._recorder.record(self._issued(session, account, origin))
        ttl = max(1, min(self._access.ttl, int(session.ends_at - self._clock.now())))  # never longer than its session
        token = self._access.mint(
            account,
            scope=SESSION,
            session=session.id,
            amr=session.amr,
            auth_time=session.auth_time,
            ttl=ttl,
            confirmation=bound,
        )
        document = {
            "access_token": token,
            "token_type": "DPoP" if bound else "Bearer",
            "expires_in": ttl,
            "scope": SESSION,
        }
        return JSONResponse(document, headers=no_store())

    async def list(self, request: Request) -> Response:
        account, _, current = await self._person(request)
        entries = await self._everywhere.list(account.id)
        return JSONResponse(
            {"sessions": [{**entry, "current": entry["id"] == current} for entry in entries]}, headers=no_store()
        )

    async def end(self, request: Request) -> Response:
        account, actor, _ = await self._person(request)
        await self._everywhere.end(account.id, str(request.path_params["id"])[:64], actor)
        return Response(status_code=204)

    async def end_all(self, request: Request) -> Response:
        """Every session and token, this one too."""
        account, actor, _ = await self._person(request)
        return JSONResponse({"ended": await self._everywhere.end(account.id, None, actor)}, headers=no_store())

    async def end_current(self, request: Request) -> Response:
        origin = self._origins.of(request)
        session, _ = await self._current(request, origin)
        await self._sessions.end(session.id, "signed out", origin)
        return Response(status_code=204)

    async def _current(self, request: Request, origin: Origin) -> tuple[Session, Account]:
        """Raises Unauthenticated `missing_session`, `invalid_session`, `session_doubted`, `invalid_dpop_proof`."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "session" or not token:
            raise Unauthenticated("missing_session", "a session is needed", "send authorization: Session")
        proof = await self._proved(request, token)
        found = await self._sessions.find(token, origin, proof=proof or None)
        if found is None:
            raise Unauthenticated("invalid_session", "this session is over", "log in again")
        if not isinstance(found, Session):
            raise Unauthenticated(
                "session_doubted", "this session is used from elsewhere: " + ", ".join(found.signals), "log in again"
            )
        account = await self._accounts.peek(found.account_id)
        if account is None:
            raise Unauthenticated("invalid_session", "this session is over", "log in again")
        return found, account

    async def _person(self, request: Request) -> tuple[Account, Actor, str]:
        """Whose sessions these are, by session or by an access token of theirs; and which one asks."""
        origin = self._origins.of(request)
        if request.headers.get("authorization", "").lower().startswith("session "):
            session, account = await self._current(request, origin)
            return account, Actor(origin, account.id, account.role), session.id
        claims, account = await self._bearers.person(request, origin)
        if SESSION not in claims.scope or claims.raw.get("client_id") != FIRST_PARTY:
            raise Denied("wrong_scope", "this token is not for its person's own account", "log in directly")
        return account, Actor(origin, account.id, account.role), str(claims.raw.get("sid", ""))

    async def _proved(self, request: Request, token: str | None) -> str:
        """A proof that is none is the caller's mistake and kills nothing: a clock may be wrong."""
        try:
            return await self._proofs.proved(request, token)
        except BadInput as error:
            raise KeyProofNeeded(error.code, error.reason, nonce=self._proofs.nonce()) from None

    def _unproved(self, why: str) -> KeyProofNeeded:
        return KeyProofNeeded("invalid_dpop_proof", why, nonce=self._proofs.nonce())

    def _issued(self, session: Session, account: Account, origin: Origin) -> Event:
        details: Mapping[str, Any] = {
            "token": "access",  # nosec B105 - a kind
            "session": session.id,
            "client": FIRST_PARTY,
            "scope": SESSION,
            "decision": origin.decision_id,
        }
        return origin.stamp(
            Event(
                type=EventType.TOKEN_ISSUED,
                at=self._clock.now(),
                success=True,
                person=account.id,
                role=account.role,
                details=details,
            )
        )
