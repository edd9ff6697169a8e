"""The internal face: what the application's own services ask about accounts, through their sidecars.

Two locks on administration: the workload must be on the list, and the person whose token it passes on must be an
administrator now. The payment subset needs the workload alone.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import BadInput, Denied

from .accounts import Accounts, Actor
from .api import Bearers
from .model import Origin
from .requests import Body, Origins, query_int, read_json

_PAGE = 200
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
Unset = msgspec.UnsetType
UNSET = msgspec.UNSET


class ChangeBody(Body, frozen=True):
    """An absent field stays as it is; `payment_limit` null means no limit."""

    display_name: str | Unset = UNSET
    email: str | Unset = UNSET
    role: str | Unset = UNSET
    disabled: bool | Unset = UNSET
    payment_limit: int | Unset | None = UNSET

    def changes(self) -> dict[str, Any]:
        """Raises BadInput `nothing_to_change`."""
        names = {"display_name": "name"}
        given = {
            names.get(field, field): value
            for field in self.__struct_fields__
            if (value := getattr(self, field)) is not UNSET
        }
        if not given:
            raise BadInput("nothing_to_change", "no field is given", "give one of " + ", ".join(self.__struct_fields__))
        return given


class AccountsFace:
    """`administrators` and `payment_readers` are SPIFFE IDs of workloads."""

    def __init__(
        self,
        accounts: Accounts,
        bearers: Bearers,
        origins: Origins,
        *,
        administrators: frozenset[str],
        payment_readers: frozenset[str],
    ) -> None:
        self._accounts, self._bearers, self._origins = accounts, bearers, origins
        self._administrators, self._payment_readers = administrators, payment_readers

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/accounts", self.list_accounts, methods=["GET"]),
            Route("/accounts/{id}", self.show, methods=["GET"]),
            Route("/accounts/{id}", self.change, methods=["PATCH"]),
            Route("/accounts/{id}/payment", self.payment, methods=["GET"]),
        ]

    async def list_accounts(self, request: Request) -> Response:
        await self._administrator(request)
        limit = query_int(request, "limit", 50, most=_PAGE)
        after = request.query_params.get("after", "")[:64]
        page = await self._accounts.page(after, limit)
        document: dict[str, Any] = {"accounts": [account.public() for account in page]}
        if len(page) == limit:
            document["next"] = page[-1].id
        return JSONResponse(document)

    async def show(self, request: Request) -> Response:
        await self._administrator(request)
        return JSONResponse((await self._accounts.get(_id(request))).public())

    async def change(self, request: Request) -> Response:
        actor = await self._administrator(request)
        body = await read_json(request, ChangeBody)
        return JSONResponse((await self._accounts.change(_id(request), body.changes(), actor)).public())

    async def payment(self, request: Request) -> Response:
        origin = self._origins.of(request)
        _allow(origin, self._payment_readers)
        account_id = _id(request)
        account = await self._accounts.peek(account_id)
        return JSONResponse(
            {
                "id": account_id,
                "exists": account is not None,
                "disabled": account.disabled if account else False,
                "payment_limit": account.payment_limit if account else None,
            }
        )

    async def _administrator(self, request: Request) -> Actor:
        """Raises Denied `workload_not_allowed` or `not_an_administrator`, Unauthenticated."""
        origin = self._origins.of(request)
        _allow(origin, self._administrators)
        claims, account = await self._bearers.person(request, origin)
        self._accounts.roles.require(account.role)
        self._accounts.roles.require(claims.role)
        return Actor(origin, account.id, account.role)


def _allow(origin: Origin, allowed: frozenset[str]) -> None:
    if origin.workload not in allowed:
        raise Denied(
            "workload_not_allowed", "this workload may not ask for this", "see the setting of allowed workloads"
        )


def _id(request: Request) -> str:
    text = str(request.path_params["id"])
    if not _ID.fullmatch(text):
        raise BadInput("bad_id", "this is not an account's id")
    return text
