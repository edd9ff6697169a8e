"""The operator's face, on a socket that only the operator can open: signing keys here, accounts in `administration`."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from .accounts import Actor
from .accounts_api import UNSET, Unset
from .model import Origin
from .requests import Body, read_json
from .signing_keys import SigningKeys


class RotateBody(Body, frozen=True):
    retire_now: str | Unset = UNSET


class KeysFace:
    """Paths: `/keys`, `/keys/rotate`."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/keys", self.list_keys, methods=["GET"]),
            Route("/keys/rotate", self.rotate, methods=["POST"]),
        ]

    async def list_keys(self, request: Request) -> Response:
        return JSONResponse(self._key_list())

    async def rotate(self, request: Request) -> Response:
        body = await read_json(request, RotateBody)
        leaked = None if body.retire_now is UNSET else str(body.retire_now)
        await self._keys.rotate((await operator(request)).origin, retire_now=leaked)
        return JSONResponse(self._key_list())

    def _key_list(self) -> dict[str, Any]:
        return {"keys": [key.public() for key in self._keys.ring.keys]}


async def operator(request: Request) -> Actor:
    """The server puts `uid:N` of the other end of the socket where the client's host would be."""
    name = request.client.host if request.client else "local"
    return Actor(Origin(operator=name, request_id=request.headers.get("x-request-id", "")[:128] or None))
