"""The operator's face to what was revoked: `/revocations`, on the admin socket."""

from __future__ import annotations

import base64
import binascii

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.crypto.revocation_list import MOST
from rempart.kernel.errors import BadInput
from rempart.people.admin_api import operator
from rempart.people.requests import Body, read_json

from .revocations import Revocations

_LONGEST_NOTE = 200


class NewRevocation(Body, frozen=True):
    """`certificate`: PEM, or SHA-256 of the DER in hex."""

    certificate: str
    note: str = ""


class NewList(Body, frozen=True):
    """`list`: base64 of PEM or DER. `issuers`: PEM of intermediates below an authority of ours."""

    list: str
    issuers: str = ""


class RevocationsFace:
    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/revocations", self.show, methods=["GET"]),
            Route("/revocations", self.take, methods=["POST"]),
            Route("/revocations/lists", self.bring, methods=["POST"]),
            Route("/revocations/{id}", self.drop, methods=["DELETE"]),
        ]

    async def show(self, request: Request) -> Response:
        return JSONResponse(await self._revocations.shown())

    async def take(self, request: Request) -> Response:
        body = await read_json(request, NewRevocation)
        if len(body.note) > _LONGEST_NOTE or (body.note and not body.note.isprintable()):
            raise BadInput("bad_note", f"a note has at most {_LONGEST_NOTE} printable characters")
        taken = await self._revocations.take(body.certificate, body.note, (await operator(request)).origin)
        return JSONResponse({"id": taken.digest.hex(), "note": taken.note, "at": taken.at}, 201)

    async def bring(self, request: Request) -> Response:
        body = await read_json(request, NewList, most=2 * MOST)
        try:
            data = base64.b64decode(body.list, validate=True)
        except (ValueError, binascii.Error):
            raise BadInput("bad_revocation_list", "the list is not base64") from None
        found = await self._revocations.read_list(data, body.issuers, (await operator(request)).origin)
        document = {"id": found.issuer.hex(), "issuer": found.issuer_name, "number": str(found.number)}
        times = {"made_at": found.made_at, "next_at": found.next_at}
        return JSONResponse({**document, **times, "certificates": found.count}, 201)

    async def drop(self, request: Request) -> Response:
        await self._revocations.drop(str(request.path_params["id"]), (await operator(request)).origin)
        return Response(status_code=204)
