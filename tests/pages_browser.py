"""A browser without script for pages on rooms in memory: cookies, forms and their hidden fields; follows nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx
from tests.pages_fakes import EMAIL, PASSWORD, Site

from rempart.people.pages.faces import page_routes
from rempart.people.requests import Origins, application

OURS = "https://localhost:8443"
SAME = {"sec-fetch-site": "same-origin", "origin": "null"}


class Html(HTMLParser):
    """Every element of a document with its attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)

    @property
    def form_token(self) -> str:
        return next(each["value"] or "" for each in self.all("input") if each.get("name") == "form_token")


@dataclass
class Visitor:
    client: httpx.AsyncClient
    site: Site
    shown: httpx.Response = field(init=False)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        self.shown = await self.client.get(path, headers=headers)
        return self.shown

    async def post(self, path: str, headers: dict[str, str] | None = None, /, **fields: str) -> httpx.Response:
        """With the token of the page that is shown, unless `form_token` is among the fields."""
        if "form_token" not in fields:
            fields = {"form_token": Html(self.shown.text).form_token, **fields}
        answer = await self.client.post(path, data=fields, headers=SAME if headers is None else headers)
        if answer.status_code != 303:
            self.shown = answer
        return answer

    async def sign_in(self, query: str = "") -> httpx.Response:
        path = f"/auth/sign-in{query}"
        await self.get(path)
        return await self.post(path, email=EMAIL, password=PASSWORD)


def visiting(scenario: Callable[[Visitor], Awaitable[Any]], site: Site | None = None) -> None:
    async def inside() -> None:
        stage = site or Site()
        origins = Origins(gateway="spiffe://bank.example/rempart/gateway", client_ip_header="x-forwarded-for")
        routes = page_routes(
            stage.rooms(), origins, stage.clock, issuer=OURS + "/auth", brand="bank.example", key=b"k" * 32
        )
        transport = httpx.ASGITransport(application(routes))
        async with httpx.AsyncClient(transport=transport, base_url=OURS) as client:
            await scenario(Visitor(client, stage))

    asyncio.run(inside())
