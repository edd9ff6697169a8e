"""The operator's face, on a socket that only the operator can open: accounts and signing keys."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput, RempartError

from .accounts import Accounts, Actor, Added
from .accounts_api import UNSET, ChangeBody, Unset
from .model import Account, Origin
from .requests import Body, query_int, read_json
from .signing_keys import SigningKeys

_PAGE = 1000
MAX_IMPORT = 100  # accounts per request: each costs a hash


class NewAccount(Body, frozen=True):
    email: str
    role: str
    name: str | None = None
    payment_limit: int | None = None
    password: str | None = None
    password_hash: str | None = None
    totp: str | None = None


class Import(Body, frozen=True):
    accounts: list[NewAccount]


class ResetBody(Body, frozen=True):
    password: str | None = None
    totp: str | None = None


class RevokeBody(Body, frozen=True):
    session: str | None = None


class RotateBody(Body, frozen=True):
    retire_now: str | Unset = UNSET


class AdminFace:
    """Paths: `/users`, `/users/{id or e-mail}`, `…/password`, `…/sessions`, `…/revoke`, `/keys`, `/keys/rotate`."""

    def __init__(self, accounts: Accounts, keys: SigningKeys) -> None:
        self._accounts, self._keys = accounts, keys

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/users", self.list_users, methods=["GET"]),
            Route("/users", self.add, methods=["POST"]),
            Route("/users/import", self.bring_in, methods=["POST"]),
            Route("/users/{user}", self.show, methods=["GET"]),
            Route("/users/{user}", self.change, methods=["PATCH"]),
            Route("/users/{user}/password", self.reset, methods=["POST"]),
            Route("/users/{user}/sessions", self.sessions, methods=["GET"]),
            Route("/users/{user}/revoke", self.revoke, methods=["POST"]),
            Route("/keys", self.list_keys, methods=["GET"]),
            Route("/keys/rotate", self.rotate, methods=["POST"]),
        ]

    async def list_users(self, request: Request) -> Response:
        limit = query_int(request, "limit", _PAGE, most=_PAGE)
        page = await self._accounts.page(request.query_params.get("after", "")[:64], limit)
        document: dict[str, Any] = {"users": [account.public() for account in page]}
        if len(page) == limit:
            document["next"] = page[-1].id
        return JSONResponse(document)

    async def add(self, request: Request) -> Response:
        added = await self._add(await read_json(request, NewAccount), _operator(request))
        return JSONResponse(_added(added), 201)

    async def bring_in(self, request: Request) -> Response:
        """Each account by itself: the answer has one entry for each, in order, with `error` where it failed."""
        body = await read_json(request, Import)
        if len(body.accounts) > MAX_IMPORT:
            raise BadInput("too_many", f"at most {MAX_IMPORT} accounts at once")
        entries: list[dict[str, Any]] = []
        for new in body.accounts:
            try:
                entries.append(_added(await self._add(new, _operator(request))))
            except RempartError as error:
                if error.status >= 500:
                    raise
                entries.append({"email": new.email, "error": error.reason, "code": error.code})
        return JSONResponse({"users": entries})

    async def show(self, request: Request) -> Response:
        return JSONResponse((await self._user(request)).public())

    async def change(self, request: Request) -> Response:
        body = await read_json(request, ChangeBody)
        account = await self._user(request)
        changed = await self._accounts.change(account.id, body.changes(), _operator(request))
        return JSONResponse(changed.public())

    async def reset(self, request: Request) -> Response:
        body = await read_json(request, ResetBody)
        account = await self._user(request)
        done = await self._accounts.reset_password(account.id, body.password, body.totp, _operator(request))
        return JSONResponse(_added(done))

    async def sessions(self, request: Request) -> Response:
        families = await self._accounts.sessions((await self._user(request)).id)
        return JSONResponse({"sessions": [family.public() for family in families]})

    async def revoke(self, request: Request) -> Response:
        body = await read_json(request, RevokeBody)
        account = await self._user(request)
        return JSONResponse({"revoked": await self._accounts.revoke(account.id, body.session, _operator(request))})

    async def list_keys(self, request: Request) -> Response:
        return JSONResponse(self._key_list())

    async def rotate(self, request: Request) -> Response:
        body = await read_json(request, RotateBody)
        leaked = None if body.retire_now is UNSET else str(body.retire_now)
        await self._keys.rotate(_operator(request).origin, retire_now=leaked)
        return JSONResponse(self._key_list())

    def _key_list(self) -> dict[str, Any]:
        return {"keys": [key.public() for key in self._keys.ring.keys]}

    async def _user(self, request: Request) -> Account:
        return await self._accounts.find(str(request.path_params["user"])[:320])

    async def _add(self, new: NewAccount, actor: Actor) -> Added:
        return await self._accounts.add(
            email=new.email,
            role=new.role,
            name=new.name,
            payment_limit=new.payment_limit,
            password=new.password,
            password_hash=new.password_hash,
            totp=new.totp,
            actor=actor,
        )


def _added(added: Added) -> dict[str, Any]:
    document = added.account.public()
    if added.password is not None:
        document["password"] = added.password
    return document


def _operator(request: Request) -> Actor:
    """The server puts `uid:N` of the other end of the socket where the client's host would be."""
    operator = request.client.host if request.client else "local"
    return Actor(Origin(operator=operator, request_id=request.headers.get("x-request-id", "")[:128] or None))
