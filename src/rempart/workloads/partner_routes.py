"""Partners for the operator: how they stand, and asking one for its bundle now instead of when it is due.

`GET /partners` is in `api`; `POST /partners/{trust domain}/refresh` is for after a partner's compromise.
"""

from __future__ import annotations

from rempart.kernel.errors import NotFound
from rempart.protocols.http_pages import Ask, Page, Route, json_page

from .federation import Federation


class PartnerRoutes:
    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    def routes(self) -> list[Route]:
        return [Route("POST", "/partners/{}/refresh", self.refresh)]

    async def refresh(self, ask: Ask, name: str) -> Page:
        if name not in self._federation.fetched:
            raise NotFound(
                "unknown_partner", f"{name[:255]!r} is not fetched from anywhere", "see `rempart bundle show`"
            )
        bundle = await self._federation.refresh(name)
        return json_page({"trust_domain": name, "sequence": bundle.sequence, "roots": len(bundle.roots)})
