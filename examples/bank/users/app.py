"""GET /users, GET and PATCH /users/{id}, for administrators. People judges and records each change under the
administrator's own token.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from rempart.sdk import (
    BadInput,
    Body,
    NotFound,
    Protect,
    ServiceClient,
    Verifier,
    one,
    published_keys_verifier,
    read_json,
    requires,
)

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CURSOR = re.compile(r"[\x21-\x7e]{1,200}")
_LIMIT = re.compile(r"[1-9][0-9]{0,2}")


class Change(Body, frozen=True, omit_defaults=True):
    """What is given is changed; `payment_limit` null takes the limit away."""

    display_name: str | msgspec.UnsetType = msgspec.UNSET
    email: str | msgspec.UnsetType = msgspec.UNSET
    role: str | msgspec.UnsetType = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    payment_limit: int | msgspec.UnsetType | None = msgspec.UNSET


def application() -> Protect:
    """What `python -m users` serves, made of the environment."""
    people = ServiceClient("people")
    return protect(people=people, verifier=published_keys_verifier(people))


def protect(*, people: ServiceClient, verifier: Verifier) -> Protect:
    users = Users(people)
    routes = [
        Route("/users", users.every, methods=["GET"]),
        Route("/users/{id}", users.show, methods=["GET"]),
        Route("/users/{id}", users.change, methods=["PATCH"]),
    ]
    return Protect(Starlette(routes=routes), verifier=verifier)


class Users:
    def __init__(self, people: ServiceClient) -> None:
        self._people = people

    @requires(role="admin")
    async def every(self, request: Request) -> JSONResponse:
        items = request.query_params.multi_items()
        query = {name: one(items, name, form, default="") for name, form in (("after", _CURSOR), ("limit", _LIMIT))}
        given = {name: value for name, value in query.items() if value}
        listed = await self._people.get_json("/accounts", dict[str, Any], query=given)
        return JSONResponse({"users" if name == "accounts" else name: value for name, value in listed.items()})

    @requires(role="admin")
    async def show(self, request: Request) -> JSONResponse:
        return JSONResponse(await self._people.get_json(f"/accounts/{_id(request)}", dict[str, Any]))

    @requires(role="admin")
    async def change(self, request: Request) -> JSONResponse:
        change = await read_json(request, Change)
        if msgspec.to_builtins(change) == {}:
            raise BadInput("bad_body", "nothing to change is named")
        return JSONResponse(await self._people.send_json("PATCH", f"/accounts/{_id(request)}", change, dict[str, Any]))


def _id(request: Request) -> str:
    identifier = str(request.path_params["id"])
    if not _ID.fullmatch(identifier):
        raise NotFound("no_such_user", "there is no user with this id")
    return identifier
