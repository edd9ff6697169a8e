"""Registration entries for workloads that may administer them, behind identity's own sidecar (requirement F8).

`GET /entries` · `POST /entries` (as `entry_request` says) · `GET|DELETE /entries/{id or SPIFFE ID}`.
Who calls is `x-spiffe-id`, which only that sidecar sets, once the policy has allowed the call. Beyond the policy the
caller must be a registrar of `rempart.toml` or hold an entry that an operator marked `admin`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rempart.kernel.errors import Denied, NotFound, Unauthenticated
from rempart.kernel.spiffe import SpiffeId
from rempart.protocols.http_pages import Ask, Handler, Page, Route, json_page, routed

from . import entry_request
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

    def handler(self) -> Handler:
        return routed(
            [
                Route("GET", "/entries", self.list_entries),
                Route("POST", "/entries", self.apply),
                Route("GET", "/entries/{*}", self.show),
                Route("DELETE", "/entries/{*}", self.delete),
                *self._public,
            ]
        )

    def _registrar(self, ask: Ask) -> Registrar:
        """Raises Unauthenticated `no_workload`, Denied `not_registrar`."""
        named = ask.values(b"x-spiffe-id")
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

    async def list_entries(self, ask: Ask) -> Page:
        """Those that it may change."""
        registrar = self._registrar(ask)
        await self._registration.latest()
        return json_page({"entries": [entry.document() for entry in self._visible(registrar)]})

    def _visible(self, registrar: Registrar) -> list[Entry]:
        return [entry for entry in self._registration.entries() if not entry.fixed and registrar.covers(entry)]

    async def apply(self, ask: Ask) -> Page:
        registrar = self._registrar(ask)
        wanted = await entry_request.read(ask, self._identities.trust_domain)
        answer = await entry_request.apply(self._registration, wanted, registrar.spiffe_id, registrar)
        self._identities.forget_unregistered()
        return json_page(answer)

    async def show(self, ask: Ask, name: str) -> Page:
        registrar = self._registrar(ask)
        found = [entry for entry in self._visible(registrar) if name in (entry.id, str(entry.spiffe_id))]
        if not found:
            raise NotFound("unknown_entry", f"there is no entry {name[:200]!r} of yours")
        return json_page({"entries": [entry.document() for entry in found]})

    async def delete(self, ask: Ask, name: str) -> Page:
        registrar = self._registrar(ask)
        removed = await self._registration.delete(name, registrar.spiffe_id, registrar=registrar)
        self._identities.forget_unregistered()
        return json_page({"deleted": [entry.document() for entry in removed]})
