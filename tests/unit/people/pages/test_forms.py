"""Forms count only from our own page, in the browser and the session that it was made for."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.requests import Request

from rempart.kernel.errors import BadInput, Denied
from rempart.people.pages.forms import FORM_COOKIE, FormGuard, new_browser

OURS = "https://localhost:8443"
BROWSER = new_browser()
guard = FormGuard(b"k" * 32, OURS)


def post(fields: dict[str, str], cookie: str | None = BROWSER, **headers: str) -> Request:
    raw = [(b"content-type", b"application/x-www-form-urlencoded")]
    raw += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if cookie is not None:
        raw.append((b"cookie", f"{FORM_COOKIE}={cookie}".encode()))
    body = urlencode(fields).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw}, receive)


def token(browser: str = BROWSER, session: str = "s1") -> dict[str, str]:
    return {"form_token": guard.token(browser, session)}


def read(request: Request, session: str) -> dict[str, str]:
    return asyncio.run(guard.read(request, session))


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "same-origin", "origin": "null"},  # what browsers send under `no-referrer`
        {"sec_fetch_site": "same-origin", "origin": OURS},
        {"sec_fetch_site": "same-origin"},
        {"origin": OURS},
        {},
    ],
)
def test_our_own_form_is_read(headers: dict[str, str]) -> None:
    assert read(post({**token(), "name": "Ann"}, **headers), "s1") == {"name": "Ann"}


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": "same-origin", "origin": "https://evil.example"},
        {"sec_fetch_site": "cross-site", "origin": OURS},
        {"origin": "null"},
        {"origin": "https://localhost:8444"},
        {"origin": "http://localhost:8443"},
    ],
)
def test_a_form_from_elsewhere_is_refused_even_with_the_right_token(headers: dict[str, str]) -> None:
    with pytest.raises(Denied) as refused:
        read(post(token(), **headers), "s1")
    assert refused.value.code == "foreign_form"


@pytest.mark.parametrize(
    ("fields", "cookie"),
    [
        ({}, BROWSER),
        ({"form_token": ""}, BROWSER),
        ({"form_token": "é"}, BROWSER),
        (token(session="s2"), BROWSER),
        (token(session=""), BROWSER),
        (token(browser=new_browser()), BROWSER),
        (token(), new_browser()),
        (token(), None),
        (token(browser=""), None),
        (token(browser="short"), "short"),
        ({"form_token": FormGuard(b"j" * 32, OURS).token(BROWSER, "s1")}, BROWSER),
    ],
)
def test_a_token_counts_for_its_browser_and_session_only(fields: dict[str, str], cookie: str | None) -> None:
    with pytest.raises(Denied) as refused:
        read(post(fields, cookie, sec_fetch_site="same-origin"), "s1")
    assert refused.value.code == "stale_form"


def test_a_body_that_is_no_form_is_refused() -> None:
    request = post(token())
    request.scope["headers"] = [(b"content-type", b"application/json")]
    with pytest.raises(BadInput):
        read(request, "s1")
