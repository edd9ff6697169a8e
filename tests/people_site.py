"""The real people process behind TLS, as browsers reach it, and a client's own site for its callbacks."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pyotp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from tests.pages_site import listen, serving
from tests.people_process import GATEWAY, PeopleProcess
from tests.support import eventually, short_directory

PASSWORD = "a quiet river of glass 42"
VERIFIER = "v" * 43
_HOP = {"host", "connection", "transfer-encoding"}


def early_code(app: pyotp.TOTP) -> str:
    """Of the step before, with a third of this one still ahead: used now, it leaves `app.now()` for the next time."""
    eventually(lambda: time.time() % 30 < 20, within=15)
    return app.at(time.time() - 30)


@dataclass
class PeopleSite:
    """`origin` is where people is, `client` where the client's site is."""

    process: PeopleProcess
    origin: str
    client: str
    _people: int = field(default=0)

    def add(self, **more: Any) -> str:
        """A new person; their address."""
        self._people += 1
        email = f"person{self._people}@bank.example"
        with self.process.client("admin") as admin:
            body = {"email": email, "role": "user", "password": PASSWORD, "name": "Ann Example", **more}
            answer = admin.post("/users", json=body)
            assert answer.status_code == 201, answer.text
        return email

    def register(self, client_id: str, **more: Any) -> None:
        body = {
            "id": client_id,
            "name": "Example Shop",
            "method": "none",
            "redirect_uris": [f"{self.client}/callback"],
            "post_logout_redirect_uris": [f"{self.client}/bye"],
            "grants": ["authorization_code", "refresh_token"],
            "scopes": ["openid", "profile", "email", "offline_access"],
            **more,
        }
        with self.process.client("admin") as admin:
            answer = admin.post("/clients", json=body)
            assert answer.status_code in (201, 409), answer.text

    def authorize(self, client_id: str, **more: str) -> str:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": client_id,
            "redirect_uri": f"{self.client}/callback",
            "response_type": "code",
            "scope": "openid profile email",
            "state": "the-state",
            "nonce": "the-nonce",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **more,
        }
        return f"{self.origin}/auth/authorize?{urlencode(query)}"

    def token(self, **fields: str) -> httpx.Response:
        headers = {"x-spiffe-id": GATEWAY, "x-forwarded-for": "203.0.113.7"}
        with self.process.client(**headers) as api:
            return api.post("/auth/token", data=fields)

    def exchange(self, client_id: str, callback: str) -> dict[str, Any]:
        """The tokens for the code in the callback's address."""
        query = parse_qs(urlsplit(callback).query)
        assert query["state"] == ["the-state"], query
        answer = self.token(
            grant_type="authorization_code",
            client_id=client_id,
            code=query["code"][0],
            redirect_uri=f"{self.client}/callback",
            code_verifier=VERIFIER,
        )
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens

    def mails(self, to: str) -> list[str]:
        """Texts, the oldest first."""
        outbox = self.process.directory / "data" / "outbox"
        found = [message_from_bytes(path.read_bytes(), policy=default) for path in sorted(outbox.glob("*.eml"))]
        return [mail.get_content() for mail in found if mail["to"] == to]


@contextlib.contextmanager
def people_site(**settings: Any) -> Iterator[PeopleSite]:
    listening, client = listen(), listen()
    origin = f"https://localhost:{listening.getsockname()[1]}"
    with short_directory() as directory:
        process = PeopleProcess(directory, {"issuer": f"{origin}/auth", **settings})
        process.start()
        tls = [directory / "tls", directory / "client"]
        for place in tls:
            place.mkdir()
        try:
            with serving(_front(process), listening, tls[0]), serving(_client(), client, tls[1]) as callback:
                yield PeopleSite(process, origin, callback)
        finally:
            process.close()


def _front(process: PeopleProcess) -> Starlette:
    """What the gateway does of what pages can tell: says where a request comes from, and believes no one else."""

    async def forward(request: Request) -> Response:
        headers = [(name, value) for name, value in request.headers.items() if name not in _HOP]
        headers += [("x-spiffe-id", GATEWAY), ("x-forwarded-for", "203.0.113.7")]
        query = f"?{request.url.query}" if request.url.query else ""
        transport = httpx.AsyncHTTPTransport(uds=str(process.path("api")))
        async with httpx.AsyncClient(transport=transport, base_url="http://people", timeout=30) as upstream:
            answer = await upstream.request(
                request.method, request.url.path + query, headers=headers, content=await request.body()
            )
        response = Response(answer.content, answer.status_code)
        response.raw_headers = [(name, value) for name, value in answer.headers.raw if name.decode() not in _HOP]
        return response

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])])


def _client() -> Starlette:
    async def page(request: Request) -> Response:
        return HTMLResponse("<!doctype html><link rel=icon href=data:,><title>Shop</title><h1>Example Shop</h1>")

    return Starlette(routes=[Route("/{path:path}", page, methods=["GET", "POST"])])
