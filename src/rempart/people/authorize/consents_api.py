"""The operator's face to what people let clients have: `/users/{id or e-mail}/consents`, on the admin socket."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import NotFound

from ..admin_api import operator
from .consent import Consents
from .model import Consent
from .ports import AccountFinder


class ConsentsFace:
    def __init__(self, consents: Consents, accounts: AccountFinder) -> None:
        self._consents, self._accounts = consents, accounts

    def routes(self) -> list[BaseRoute]:
        path = "/users/{user}/consents"
        return [
            Route(path, self.list_consents, methods=["GET"]),
            Route(path + "/{client}", self.revoke, methods=["DELETE"]),
        ]

    async def list_consents(self, request: Request) -> Response:
        account = await self._accounts.find(request.path_params["user"])
        return JSONResponse({"consents": [_shown(one) for one in await self._consents.of_account(account.id)]})

    async def revoke(self, request: Request) -> Response:
        """204; what the client holds for this person ends. NotFound `no_such_consent`."""
        account = await self._accounts.find(request.path_params["user"])
        origin = (await operator(request)).origin
        if not await self._consents.revoke(account.id, request.path_params["client"], origin):
            raise NotFound("no_such_consent", "this person let that client have nothing", "see GET …/consents")
        return Response(status_code=204)


def _shown(consent: Consent) -> dict[str, object]:
    return {
        "client_id": consent.client_id,
        "client_name": consent.client_name,
        "scopes": list(consent.scopes),
        "granted_at": consent.granted_at,
    }
