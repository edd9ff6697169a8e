"""A running people process as a browser and a client's program see it: at its public https address."""

from __future__ import annotations

from typing import Any

import httpx
from tests.people_process import GATEWAY, PeopleProcess

ISSUER = "https://localhost:8443/auth"


class Behind(httpx.BaseTransport):
    """Takes the gateway's place: ends TLS and speaks HTTP to the process's socket. Cookies stay `Secure`."""

    def __init__(self, people: PeopleProcess) -> None:
        self._inner = httpx.HTTPTransport(uds=str(people.path("api")))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"x-spiffe-id"]
        forwarded = [*headers, (b"x-spiffe-id", GATEWAY.encode()), (b"x-forwarded-for", b"203.0.113.7")]
        plain = httpx.Request(
            request.method,
            request.url.copy_with(scheme="http"),
            headers=forwarded,
            stream=request.stream,
            extensions=request.extensions,
        )
        return self._inner.handle_request(plain)

    def close(self) -> None:
        self._inner.close()


def web(people: PeopleProcess, **more: Any) -> httpx.Client:
    """Follows no redirect by itself."""
    return httpx.Client(transport=Behind(people), base_url="https://localhost:8443", timeout=30, **more)


def register(people: PeopleProcess, client_id: str, **more: Any) -> dict[str, Any]:
    """Register an OAuth client as the operator does; the answer holds a secret that was made."""
    with people.client("admin") as admin:
        answer = admin.post("/clients", json={"id": client_id, **more})
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document
