"""The JSON face of one's own factors and password, for pages' scripts and tools: `/auth/factors…`, `/auth/password`.

Whoever asks is known by the cookie of a browser's session or by a bearer token of scope `session`. A change ends
everything that was signed in: a browser gets a new session with the answer, a tool logs in again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import Denied, Unauthenticated

from ..access_tokens import SESSION
from ..accounts import Accounts
from ..api import Bearers
from ..devices import DEVICE_COOKIE, set_device
from ..login import Logins
from ..model import Origin
from ..requests import Body, Origins, read_json
from ..sessions.cookies import set_session
from ..sessions.model import Kind
from ..sessions.service import Sessions
from .model import Changed, Person
from .own_factors import OwnFactors
from .own_password import OwnPassword


class CodeBody(Body, frozen=True):
    code: str


class NameBody(Body, frozen=True):
    name: str


class PasskeyBody(Body, frozen=True):
    """`passkey`: what the browser's `PublicKeyCredential.toJSON()` gives."""

    name: str
    passkey: dict[str, Any]


class PasswordBody(Body, frozen=True):
    old: str
    new: str


class OwnFace:
    """`page_origin`: scheme, host and port of the issuer, where the pages are that may use a session's cookie."""

    def __init__(
        self,
        factors: OwnFactors,
        password: OwnPassword,
        sessions: Sessions,
        bearers: Bearers,
        accounts: Accounts,
        logins: Logins,
        origins: Origins,
        *,
        page_origin: str,
    ) -> None:
        self._factors, self._password, self._sessions, self._bearers = factors, password, sessions, bearers
        self._accounts, self._logins, self._origins, self._page_origin = accounts, logins, origins, page_origin

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/auth/factors", self.list, methods=["GET"]),
            Route("/auth/factors/totp", self.begin_totp, methods=["POST"]),
            Route("/auth/factors/totp", self.remove_totp, methods=["DELETE"]),
            Route("/auth/factors/totp/confirm", self.confirm_totp, methods=["POST"]),
            Route("/auth/factors/backup-codes", self.new_backup_codes, methods=["POST"]),
            Route("/auth/factors/passkeys", self.add_passkey, methods=["POST"]),
            Route("/auth/factors/passkeys/options", self.passkey_options, methods=["POST"]),
            Route("/auth/factors/passkeys/{id}", self.rename_passkey, methods=["PATCH"]),
            Route("/auth/factors/passkeys/{id}", self.remove_passkey, methods=["DELETE"]),
            Route("/auth/password", self.change_password, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        who, _ = await self._who(request)
        own = await self._factors.list(who)
        return _private(
            {
                "totp": own.totp,
                "passkeys": [passkey.public() for passkey in own.passkeys],
                "backup_codes": own.backup_codes,
                "demanded": own.demanded,
            }
        )

    async def begin_totp(self, request: Request) -> Response:
        who, _ = await self._who(request)
        setup = await self._factors.begin_totp(who)
        return _private({"secret": setup.secret, "uri": setup.uri, "svg": setup.svg.decode()})

    async def confirm_totp(self, request: Request) -> Response:
        who, origin = await self._who(request)
        body = await read_json(request, CodeBody)
        return await self._changed(request, await self._factors.confirm_totp(who, body.code, origin), origin)

    async def remove_totp(self, request: Request) -> Response:
        who, origin = await self._who(request)
        return await self._changed(request, await self._factors.remove_totp(who, origin), origin)

    async def new_backup_codes(self, request: Request) -> Response:
        who, origin = await self._who(request)
        return await self._changed(request, await self._factors.new_backup_codes(who, origin), origin)

    async def passkey_options(self, request: Request) -> Response:
        who, _ = await self._who(request)
        return _private(await self._factors.passkey_options(who))

    async def add_passkey(self, request: Request) -> Response:
        who, origin = await self._who(request)
        body = await read_json(request, PasskeyBody)
        changed = await self._factors.add_passkey(who, body.passkey, body.name, origin)
        return await self._changed(request, changed, origin)

    async def rename_passkey(self, request: Request) -> Response:
        who, origin = await self._who(request)
        body = await read_json(request, NameBody)
        await self._factors.rename_passkey(who, _id(request), body.name, origin)
        return Response(status_code=204)

    async def remove_passkey(self, request: Request) -> Response:
        who, origin = await self._who(request)
        return await self._changed(request, await self._factors.remove_passkey(who, _id(request), origin), origin)

    async def change_password(self, request: Request) -> Response:
        who, origin = await self._who(request)
        body = await read_json(request, PasswordBody)
        device = request.cookies.get(DEVICE_COOKIE)
        changed = await self._password.change(who, body.old, body.new, device, origin)
        return await self._changed(request, changed, origin)

    async def _who(self, request: Request) -> tuple[Person, Origin]:
        """Raises Unauthenticated, Denied `wrong_scope` or `other_page`."""
        origin = self._origins.of(request)
        if "authorization" in request.headers:
            claims, account = await self._bearers.person(request, origin)
            if SESSION not in claims.scope or "act" in claims.raw:  # a service that acts for them is not them
                raise Denied("wrong_scope", "this token is not for its person's own account", "log in directly")
            session = str(claims.raw.get("sid", ""))
            return Person(account=account, session=session, amr=claims.amr, auth_time=claims.auth_time), origin
        if request.method != "GET" and request.headers.get("origin") != self._page_origin:
            raise Denied("other_page", "another site's page sent this", "use the account page")
        found = await self._sessions.current(request, origin)
        account_found = await self._accounts.peek(found.account_id) if found else None
        if found is None or account_found is None:
            raise Unauthenticated("missing_token", "nobody is signed in", "sign in, or send authorization: Bearer")
        return Person(account=account_found, session=found.id, amr=found.amr, auth_time=found.auth_time), origin

    async def _changed(self, request: Request, changed: Changed, origin: Origin) -> Response:
        response = _private({"backup_codes": list(changed.backup_codes)} if changed.backup_codes else {})
        if "authorization" not in request.headers:
            opened = await self._sessions.open(changed.authenticated, Kind.WEB, origin)
            set_session(response, opened.token)
            set_device(response, self._logins.remember(changed.authenticated.account))
        return response


def _private(document: Mapping[str, Any]) -> Response:
    return JSONResponse(dict(document), headers={"cache-control": "no-store"})


def _id(request: Request) -> str:
    return str(request.path_params["id"])[:64]
