"""Identity's administration over HTTP, on a socket that only the operator can open.

`GET /entries` · `POST /entries` (as `entry_request` says) ·
`GET|DELETE /entries/{id or SPIFFE ID}` · `GET /bundle` (SPIFFE bundle) · `GET /bundle.pem` ·
`GET /partners` · `GET /servers` (those that share the trust domain) · `GET /authorities` ·
`POST /authorities/{spiffe|web|jwt}/rotate` (jwt: `{"compromised": true, "overlap": seconds}` ends the old keys early).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rempart.crypto.x509 import ders_to_pem
from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput, NotFound, RempartError
from rempart.protocols.http_answers import refusal

from . import entry_request
from .identities import Identities
from .issuing import IssuingAuthority
from .registration import Registration
from .shared_bundle import SharedBundle
from .workload_api import spiffe_bundle

LEAD = 5.0
"""Seconds that validators have to learn a new JWT key where the old ones are compromised."""


T = TypeVar("T", covariant=True)


class Described(Protocol[T]):
    def describe(self) -> T: ...


class Administration:
    def __init__(
        self,
        identities: Identities,
        registration: Registration,
        authorities: dict[str, IssuingAuthority],
        jwt: Described[dict[str, object]],
        rotate_jwt: Callable[[str, float | None], Awaitable[float | None]],
        federation: Described[list[dict[str, object]]],
        *,
        operator: str,
        servers: SharedBundle | None = None,
        more: Sequence[Route] = (),
    ) -> None:
        self._servers = servers
        self._more = more
        self._identities = identities
        self._registration = registration
        self._authorities = authorities
        self._jwt = jwt
        self._rotate_jwt = rotate_jwt
        self._federation = federation
        self._operator = operator

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/entries", self.list_entries, methods=["GET"]),
                Route("/entries", self.apply, methods=["POST"]),
                Route("/entries/{name:path}", self.show, methods=["GET"]),
                Route("/entries/{name:path}", self.delete, methods=["DELETE"]),
                Route("/bundle", self.bundle, methods=["GET"]),
                Route("/bundle.pem", self.bundle_pem, methods=["GET"]),
                Route("/partners", self.list_partners, methods=["GET"]),
                Route("/servers", self.list_servers, methods=["GET"]),
                Route("/authorities", self.list_authorities, methods=["GET"]),
                Route("/authorities/{kind}/rotate", self.rotate, methods=["POST"]),
                *self._more,
            ],
            exception_handlers={RempartError: refuse},
        )

    async def list_entries(self, request: Request) -> Response:
        await self._registration.latest()
        return JSONResponse({"entries": [entry.document() for entry in self._registration.entries()]})

    async def apply(self, request: Request) -> Response:
        wanted = await entry_request.read(request, self._identities.trust_domain)
        answer = await entry_request.apply(self._registration, wanted, self._operator)
        self._identities.forget_unregistered()
        return JSONResponse(answer)

    async def show(self, request: Request) -> Response:
        await self._registration.latest()
        found = self._registration.find(request.path_params["name"])
        return JSONResponse({"entries": [entry.document() for entry in found]})

    async def delete(self, request: Request) -> Response:
        removed = await self._registration.delete(request.path_params["name"], self._operator)
        self._identities.forget_unregistered()
        return JSONResponse({"deleted": [entry.document() for entry in removed]})

    async def bundle(self, request: Request) -> Response:
        return JSONResponse(spiffe_bundle(self._identities.bundle()))

    async def bundle_pem(self, request: Request) -> Response:
        return JSONResponse({"pem": ders_to_pem([root.der for root in self._identities.bundle().roots]).decode()})

    async def list_partners(self, request: Request) -> Response:
        return JSONResponse({"partners": self._federation.describe()})

    async def list_servers(self, request: Request) -> Response:
        return JSONResponse({"servers": self._servers.describe() if self._servers else []})

    async def list_authorities(self, request: Request) -> Response:
        described = [authority.describe() for authority in self._authorities.values()]
        return JSONResponse({"authorities": [*described, self._jwt.describe()]})

    async def rotate(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind == "jwt":
            gone_at = await self._rotate_jwt(self._operator, await _lead(request))
            return JSONResponse({"sequence": self._identities.bundle().sequence, "old_gone_at": gone_at})
        if kind not in self._authorities:
            raise NotFound("unknown_authority", f"there is no authority {kind[:80]!r}", "use spiffe, web or jwt")
        await self._authorities[kind].rotate(operator=self._operator)
        self._identities.changes.announce()
        return JSONResponse(self._authorities[kind].describe())


async def _lead(request: Request) -> float | None:
    body = await request.body()
    asked = strict_json.loads(body[:1000]) if body else {}
    if not isinstance(asked, dict) or asked.get("compromised") is not True:
        return None
    lead = asked.get("overlap", LEAD)
    if isinstance(lead, bool) or not isinstance(lead, int | float) or not 0.1 <= lead <= 3600:
        raise BadInput("bad_overlap", f"an overlap of {str(lead)[:20]} makes no sense", "0.1 second to one hour")
    return float(lead)


async def refuse(request: Request, error: Exception) -> Response:
    if not isinstance(error, RempartError):
        return PlainTextResponse("", status_code=500)
    return refusal(error)
