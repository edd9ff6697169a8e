"""Who may read which answers from elsewhere: public clients' own pages, OAuth's endpoints, and never with cookies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest
from tests.people_harness import Harness, came_from, harness

from rempart.people.cors import METHODS, REMEMBERED, origins_of

APP = "https://app.example"
LOCAL = "http://127.0.0.1:5173"


def with_people(scenario: Callable[[Harness], Coroutine[Any, Any, None]]) -> None:
    async def body() -> None:
        async with harness() as h:
            await client(h, "app", redirect_uris=[f"{APP}/callback", f"{LOCAL}/cb", "com.example.app:/cb"])
            secret = {"method": "client_secret_basic", "redirect_uris": ["https://web.example/callback"]}
            await client(h, "web", **secret)
            await scenario(h)

    asyncio.run(body())


async def client(h: Harness, client_id: str, **more: Any) -> None:
    body = {"id": client_id, "method": "none", "grants": ["authorization_code", "refresh_token"], **more}
    answer = await h.admin.post("/clients", json=body)
    assert answer.status_code == 201, answer.text


async def preflight(h: Harness, path: str, origin: str, method: str = "POST") -> httpx.Response:
    asked = {"origin": origin, "access-control-request-method": method}
    headers = {**came_from("203.0.113.7"), **asked, "access-control-request-headers": "authorization,dpop"}
    return await h.api.request("OPTIONS", path, headers=headers)


@pytest.mark.parametrize("path", METHODS)
@pytest.mark.parametrize("origin", [APP, LOCAL])
def test_a_public_clients_page_may_ask(path: str, origin: str) -> None:
    async def scenario(h: Harness) -> None:
        answer = await preflight(h, path, origin)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-allow-methods"] == METHODS[path]
        assert set(answer.headers["access-control-allow-headers"].split(", ")) == {
            "authorization",
            "content-type",
            "dpop",
        }
        assert answer.headers["vary"] == "origin"
        assert "access-control-allow-credentials" not in answer.headers

    with_people(scenario)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://app.example.evil.example",
        "https://app.example:8443",
        "http://app.example",
        "https://APP.example",
        "https://app.example/",
        "https://web.example",  # of a confidential client: its server asks
        "http://127.0.0.1:5174",
        "http://localhost:5173",
        "com.example.app:",
        "null",
        "*",
        "",
        "https://app.example https://evil.example",
    ],
)
def test_nobody_else_may(origin: str) -> None:
    async def scenario(h: Harness) -> None:
        for path in METHODS:
            refused = await preflight(h, path, origin)
            assert refused.status_code == 403
            assert "access-control-allow-origin" not in refused.headers
        answer = await h.api.get("/auth/jwks.json", headers={"origin": origin})
        assert answer.status_code == 200  # it is public; that page may not read it
        assert "access-control-allow-origin" not in answer.headers
        assert "origin" in answer.headers["vary"].lower()

    with_people(scenario)


def test_answers_and_refusals_can_be_read_with_their_headers() -> None:
    async def scenario(h: Harness) -> None:
        for method, path, status in (
            ("GET", "/auth/jwks.json", 200),
            ("GET", "/auth/.well-known/openid-configuration", 200),
            ("POST", "/auth/token", 400),
            ("POST", "/auth/revoke", 400),
            ("POST", "/auth/par", 400),
            ("GET", "/auth/userinfo", 401),
        ):
            answer = await h.api.request(method, path, headers={**came_from("203.0.113.7"), "origin": APP})
            assert answer.status_code == status, (path, answer.text)
            assert answer.headers["access-control-allow-origin"] == APP, path
            assert "dpop-nonce" in answer.headers["access-control-expose-headers"]
            assert "access-control-allow-credentials" not in answer.headers

    with_people(scenario)


@pytest.mark.parametrize(
    "path",
    [
        "/login",
        "/auth/sign-in",
        "/auth/account",
        "/auth/authorize",
        "/auth/sessions",
        "/auth/session/bind",
        "/auth/session/refresh",
        "/auth/factors",
        "/auth/password",
        "/auth/introspect",
        "/auth/device",
        "/auth/logout",
        "/auth/admin/users",
        "/auth/scim/v2/Users",
        "/accounts",
        "/auth/token/",
        "/auth//token",
        "/auth/token/x",
    ],
)
def test_nothing_else_is_readable_from_elsewhere(path: str) -> None:
    async def scenario(h: Harness) -> None:
        for answer in (
            await preflight(h, path, APP),
            await h.api.get(path, headers={**came_from("203.0.113.7"), "origin": APP}),
        ):
            assert not [name for name in answer.headers if name.startswith("access-control-")], path
            assert answer.status_code < 500

    with_people(scenario)


def test_a_client_that_comes_or_goes_is_noticed_within_seconds() -> None:
    async def scenario(h: Harness) -> None:
        assert (await preflight(h, "/auth/token", "https://new.example")).status_code == 403
        await client(h, "new", redirect_uris=["https://new.example/cb"])
        h.clock.advance(REMEMBERED)
        assert (await preflight(h, "/auth/token", "https://new.example")).status_code == 204
        assert (await h.admin.delete("/clients/new")).status_code in (200, 204)
        h.clock.advance(REMEMBERED)
        assert (await preflight(h, "/auth/token", "https://new.example")).status_code == 403

    with_people(scenario)


def test_origins_are_written_as_browsers_write_them() -> None:
    given = ["https://App.Example:443/cb", "http://[::1]:3000/", "http://localhost:80/x", "my.app:/cb", "https:///x"]
    assert list(origins_of(given)) == ["https://app.example", "http://[::1]:3000", "http://localhost"]


def test_with_the_store_gone_a_preflight_says_so_and_the_key_set_is_served() -> None:
    async def scenario(h: Harness) -> None:
        from rempart.kernel.errors import Unavailable

        async def gone(*_: object, **__: object) -> Any:
            raise Unavailable("store_unavailable", "gone")

        h.people.oauth.clients._store.page = gone  # type: ignore[method-assign]
        assert (await preflight(h, "/auth/token", APP)).status_code == 503
        answer = await h.api.get("/auth/jwks.json", headers={"origin": APP})
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers

    with_people(scenario)
