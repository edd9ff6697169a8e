"""Administering accounts over HTTP: one face, for the operator on their socket and for administrators by token.

What each may do is decided by `Accounts` and `Roles`, not by the door.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput, NotFound, Unauthenticated

from ..access_tokens import SESSION
from ..accounts import Accounts, Actor, Added
from ..accounts_api import ChangeBody
from ..api import Bearers
from ..model import Account, Origin
from ..requests import Body, Origins, query_int, read_json
from ..sessions.everywhere import Everywhere
from .imports import Imports, NewAccount
from .links import LinkKind, Links

_PAGE = 1000
Identify = Callable[[Request], Awaitable[Actor]]


class FactorReset(Protocol):
    """`people.factors.factor_reset.FactorReset`."""

    async def reset(self, account: Account, origin: Origin, *, actor: str | None, role: str | None = None) -> Account:
        """Remove every second factor; sessions and tokens end. Recorded."""


class Import(Body, frozen=True):
    accounts: list[NewAccount]
    dry_run: bool = False


class Invitation(NewAccount, frozen=True):
    """With `invite` no password is told: the person chooses one by a link that is mailed to them."""

    invite: bool = False
    language: str = "en"


class ResetBody(Body, frozen=True):
    password: str | None = None
    totp: str | None = None


class RevokeBody(Body, frozen=True):
    session: str | None = None


class LinkBody(Body, frozen=True):
    kind: LinkKind = LinkKind.RESET
    language: str = "en"


class UsersFace:
    """Paths below `prefix`: `/users`, `/users/{id or e-mail}`, `…/password`, `…/link`, `…/factors`, `…/sessions`,
    `…/revoke`, `/users/import`, `/roles`.
    """

    def __init__(
        self,
        accounts: Accounts,
        links: Links,
        imports: Imports,
        factors: FactorReset,
        everywhere: Everywhere,
        identify: Identify,
        prefix: str = "",
    ) -> None:
        self._accounts, self._links, self._imports, self._factors = accounts, links, imports, factors
        self._everywhere, self._identify, self._prefix = everywhere, identify, prefix

    def routes(self) -> list[BaseRoute]:
        one = "/users/{user}"
        return [
            Route(self._prefix + path, endpoint, methods=[method])
            for method, path, endpoint in (
                ("GET", "/users", self.list_users),
                ("POST", "/users", self.add),
                ("POST", "/users/import", self.bring_in),
                ("GET", one, self.show),
                ("PATCH", one, self.change),
                ("DELETE", one, self.erase),
                ("POST", f"{one}/password", self.reset),
                ("POST", f"{one}/link", self.send_link),
                ("DELETE", f"{one}/factors", self.reset_factors),
                ("GET", f"{one}/sessions", self.sessions),
                ("POST", f"{one}/revoke", self.revoke),
                ("GET", "/roles", self.list_roles),
            )
        ]

    async def list_users(self, request: Request) -> Response:
        """Those that the asker administers; `next` is the id to go on after."""
        actor = await self._identify(request)
        limit = query_int(request, "limit", _PAGE, most=_PAGE)
        page = await self._accounts.page(request.query_params.get("after", "")[:64], limit)
        document: dict[str, Any] = {"users": [one.public() for one in page if self._reaches(actor, one)]}
        if len(page) == limit:
            document["next"] = page[-1].id
        return JSONResponse(document)

    async def add(self, request: Request) -> Response:
        actor = await self._identify(request)
        body = await read_json(request, Invitation)
        if body.invite and (body.password is not None or body.password_hash is not None):
            raise BadInput("bad_body", "who is invited chooses the password", "leave password out, or invite")
        added = await self._imports.add(body, actor, invited=body.invite)
        if body.invite:
            await self._links.send(added.account, LinkKind.INVITE, actor, language=body.language)
        return JSONResponse(_added(added), 201)

    async def bring_in(self, request: Request) -> Response:
        """Each account by itself: the answer has one entry for each, in order, with `error` where it failed."""
        actor = await self._identify(request)
        body = await read_json(request, Import)
        return JSONResponse({"users": await self._imports.run(body.accounts, actor, dry_run=body.dry_run)})

    async def show(self, request: Request) -> Response:
        return JSONResponse((await self._user(request, await self._identify(request))).public())

    async def change(self, request: Request) -> Response:
        actor = await self._identify(request)
        body = await read_json(request, ChangeBody)
        account = await self._user(request, actor)
        return JSONResponse((await self._accounts.change(account.id, body.changes(), actor)).public())

    async def erase(self, request: Request) -> Response:
        actor = await self._identify(request)
        return JSONResponse((await self._accounts.erase((await self._user(request, actor)).id, actor)).public())

    async def reset(self, request: Request) -> Response:
        actor = await self._identify(request)
        body = await read_json(request, ResetBody)
        account = await self._user(request, actor)
        return JSONResponse(_added(await self._accounts.reset_password(account.id, body.password, body.totp, actor)))

    async def send_link(self, request: Request) -> Response:
        actor = await self._identify(request)
        body = await read_json(request, LinkBody)
        account = await self._user(request, actor)
        await self._accounts.may_change(account, actor)
        await self._links.send(account, body.kind, actor, language=body.language)
        return JSONResponse({"sent": str(body.kind), "id": account.id})

    async def reset_factors(self, request: Request) -> Response:
        actor = await self._identify(request)
        account = await self._user(request, actor)
        await self._accounts.may_change(account, actor)
        changed = await self._factors.reset(account, actor.origin, actor=actor.person, role=actor.role)
        return JSONResponse(changed.public())

    async def sessions(self, request: Request) -> Response:
        account = await self._user(request, await self._identify(request))
        return JSONResponse({"sessions": list(await self._everywhere.list(account.id))})

    async def revoke(self, request: Request) -> Response:
        actor = await self._identify(request)
        body = await read_json(request, RevokeBody)
        account = await self._user(request, actor)
        return JSONResponse({"revoked": await self._everywhere.end(account.id, body.session, actor)})

    async def list_roles(self, request: Request) -> Response:
        await self._identify(request)
        roles = self._accounts.roles.all
        return JSONResponse({"roles": [{"name": name, **rules.public()} for name, rules in roles.items()]})

    async def _user(self, request: Request, actor: Actor) -> Account:
        account = await self._accounts.find(str(request.path_params["user"])[:320])
        if not self._reaches(actor, account):
            raise NotFound("no_such_account", "there is no such account", "see the list of users")
        return account

    def _reaches(self, actor: Actor, account: Account) -> bool:
        """Whom a role doesn't manage, it doesn't see either; oneself excepted."""
        if actor.person is None or actor.person == account.id:
            return True
        return self._accounts.roles.manages(actor.role or "", account.role)


def administrators(bearers: Bearers, accounts: Accounts, origins: Origins) -> Identify:
    """By the access token of a person whose role manages others, in the token and in the account now."""

    async def identify(request: Request) -> Actor:
        origin = origins.of(request)
        claims, account = await bearers.person(request, origin)
        if SESSION not in claims.scope or "act" in claims.raw:  # a service that acts for them is not them
            raise Unauthenticated("invalid_token", "the access token is not valid: it is an application's", "log in")
        accounts.roles.require(claims.role)
        accounts.roles.require(account.role)
        return Actor(origin, account.id, account.role)

    return identify


def _added(added: Added) -> dict[str, Any]:
    document = added.account.public()
    if added.password is not None:
        document["password"] = added.password
    return document
