"""Identity's administration over HTTP, on a socket that only the operator can open.

`GET /entries` · `POST /entries` (as `entry_request` says) ·
`GET|DELETE /entries/{id or SPIFFE ID}` · `GET /bundle` (SPIFFE bundle) · `GET /bundle.pem` ·
`GET /partners` · `GET /servers` (those that share the trust domain) · `GET /authorities` ·
`POST /authorities/{spiffe|web|jwt}/rotate` (jwt: `{"compromised": true, "overlap": seconds}` ends the old keys early).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from rempart.crypto.x509 import ders_to_pem
from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput, NotFound
from rempart.protocols.http_pages import Ask, Handler, Page, Route, json_page, routed

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

    def handler(self) -> Handler:
        return routed(
            [
                Route("GET", "/entries", self.list_entries),
                Route("POST", "/entries", self.apply),
                Route("GET", "/entries/{*}", self.show),
                Route("DELETE", "/entries/{*}", self.delete),
                Route("GET", "/bundle", self.bundle),
                Route("GET", "/bundle.pem", self.bundle_pem),
                Route("GET", "/partners", self.list_partners),
                Route("GET", "/servers", self.list_servers),
                Route("GET", "/authorities", self.list_authorities),
                Route("POST", "/authorities/{}/rotate", self.rotate),
                *self._more,
            ]
        )

    async def list_entries(self, ask: Ask) -> Page:
        await self._registration.latest()
        return json_page({"entries": [entry.document() for entry in self._registration.entries()]})

    async def apply(self, ask: Ask) -> Page:
        wanted = await entry_request.read(ask, self._identities.trust_domain)
        answer = await entry_request.apply(self._registration, wanted, self._operator)
        self._identities.forget_unregistered()
        return json_page(answer)

    async def show(self, ask: Ask, name: str) -> Page:
        await self._registration.latest()
        found = self._registration.find(name)
        return json_page({"entries": [entry.document() for entry in found]})

    async def delete(self, ask: Ask, name: str) -> Page:
        removed = await self._registration.delete(name, self._operator)
        self._identities.forget_unregistered()
        return json_page({"deleted": [entry.document() for entry in removed]})

    async def bundle(self, ask: Ask) -> Page:
        return json_page(spiffe_bundle(self._identities.bundle()))

    async def bundle_pem(self, ask: Ask) -> Page:
        return json_page({"pem": ders_to_pem([root.der for root in self._identities.bundle().roots]).decode()})

    async def list_partners(self, ask: Ask) -> Page:
        return json_page({"partners": self._federation.describe()})

    async def list_servers(self, ask: Ask) -> Page:
        return json_page({"servers": self._servers.describe() if self._servers else []})

    async def list_authorities(self, ask: Ask) -> Page:
        described = [authority.describe() for authority in self._authorities.values()]
        return json_page({"authorities": [*described, self._jwt.describe()]})

    async def rotate(self, ask: Ask, kind: str) -> Page:
        if kind == "jwt":
            gone_at = await self._rotate_jwt(self._operator, await _lead(ask))
            return json_page({"sequence": self._identities.bundle().sequence, "old_gone_at": gone_at})
        if kind not in self._authorities:
            raise NotFound("unknown_authority", f"there is no authority {kind[:80]!r}", "use spiffe, web or jwt")
        await self._authorities[kind].rotate(operator=self._operator)
        self._identities.changes.announce()
        return json_page(self._authorities[kind].describe())


async def _lead(ask: Ask) -> float | None:
    body = await ask.body(1000)
    asked = strict_json.loads(body) if body else {}
    if not isinstance(asked, dict) or asked.get("compromised") is not True:
        return None
    lead = asked.get("overlap", LEAD)
    if isinstance(lead, bool) or not isinstance(lead, int | float) or not 0.1 <= lead <= 3600:
        raise BadInput("bad_overlap", f"an overlap of {str(lead)[:20]} makes no sense", "0.1 second to one hour")
    return float(lead)
