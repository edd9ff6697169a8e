"""Registration entries for workloads that may administer them, behind identity's own sidecar (requirement F8).

`GET /entries` · `POST /entries` (as `entry_request` says) · `GET|DELETE /entries/{id or SPIFFE ID}`.
Who calls is `x-spiffe-id`, which only that sidecar sets, once the policy has allowed the call. Beyond the policy the
caller must be a registrar of `rempart.toml` or hold an entry that an operator marked `admin`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rempart.kernel.errors import Denied, NotFound, RempartError, Unauthenticated
from rempart.kernel.spiffe import SpiffeId

from . import entry_request
from .api import refuse
from .identities import Identities
from .model import Entry
from .registrar import Registrar
from .registration import Registration


class RegistrarApi:
    def __init__(
        self,
        identities: Identities,
        registration: Registration,
        registrars: Sequence[Registrar],
        public: Sequence[Route] = (),
    ) -> None:
        self._public = tuple(public)
        self._identities = identities
        self._registration = registration
        self._ids = frozenset(registrar.spiffe_id for registrar in registrars)
        self._registrars = {one.spiffe_id: replace(one, others=self._ids) for one in registrars}

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/entries", self.list_entries, methods=["GET"]),
                Route("/entries", self.apply, methods=["POST"]),
                Route("/entries/{name:path}", self.show, methods=["GET"]),
                Route("/entries/{name:path}", self.delete, methods=["DELETE"]),
                *self._public,
            ],
            exception_handlers={RempartError: refuse},
        )

    def _registrar(self, request: Request) -> Registrar:
        """Raises Unauthenticated `no_workload`, Denied `not_registrar`."""
        named = request.headers.getlist("x-spiffe-id")
        if len(named) != 1:
            raise Unauthenticated("no_workload", "only a workload with an SVID may ask here", "call through a sidecar")
        caller = str(SpiffeId.parse(named[0]))
        if caller in self._registrars:
            return self._registrars[caller]
        if self._registration.is_admin(caller):
            return Registrar(caller, ("/",), self._ids)
        raise Denied(
            "not_registrar",
            f"{caller} may not administer entries",
            "name it as [[workloads.registrar]] in rempart.toml, or give it an entry with `admin: true`",
        )

    async def list_entries(self, request: Request) -> Response:
        """Those that it may change."""
        registrar = self._registrar(request)
        await self._registration.latest()
        return JSONResponse({"entries": [entry.document() for entry in self._visible(registrar)]})

    def _visible(self, registrar: Registrar) -> list[Entry]:
        return [entry for entry in self._registration.entries() if not entry.fixed and registrar.covers(entry)]

    async def apply(self, request: Request) -> Response:
        registrar = self._registrar(request)
        wanted = await entry_request.read(request, self._identities.trust_domain)
        answer = await entry_request.apply(self._registration, wanted, registrar.spiffe_id, registrar)
        self._identities.forget_unregistered()
        return JSONResponse(answer)

    async def show(self, request: Request) -> Response:
        registrar = self._registrar(request)
        name = request.path_params["name"]
        found = [entry for entry in self._visible(registrar) if name in (entry.id, str(entry.spiffe_id))]
        if not found:
            raise NotFound("unknown_entry", f"there is no entry {name[:200]!r} of yours")
        return JSONResponse({"entries": [entry.document() for entry in found]})

    async def delete(self, request: Request) -> Response:
        registrar = self._registrar(request)
        name = request.path_params["name"]
        removed = await self._registration.delete(name, registrar.spiffe_id, registrar=registrar)
        self._identities.forget_unregistered()
        return JSONResponse({"deleted": [entry.document() for entry in removed]})
