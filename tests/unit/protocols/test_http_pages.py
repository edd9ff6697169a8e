"""Small pages: what a handler is asked, and what of its answers and refusals goes over the wire."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import Any

import httpx
import pytest
from tests.support import short_directory

from rempart.kernel.errors import BadInput, NotFound, Throttled
from rempart.protocols.http_pages import Ask, Handler, Page, json_page, no_page, paged, serve_pages


def ask(handler: Handler, method: str, url: str, most: int = 1 << 20, **how: Any) -> httpx.Response:
    async def scenario() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(paged(handler, most))) as client:
            return await client.request(method, f"http://x{url}", **how)

    return asyncio.run(scenario())


async def echo(asked: Ask) -> Page:
    return json_page([asked.method, asked.path, asked.given, asked.body.decode(), asked.accept])


def test_what_is_asked_reaches_the_handler() -> None:
    answer = ask(echo, "POST", "/a%20b?x=1&y=&x=2", content=b"body", headers={"accept": "text/plain"})
    assert answer.json() == ["POST", "/a b", [["x", "1"], ["y", ""], ["x", "2"]], "body", "text/plain"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


def test_a_query_by_name_has_the_last_of_each() -> None:
    assert Ask("GET", "/", (("a", "1"), ("a", "2"), ("b", ""))).query == {"a": "2", "b": ""}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_body_where_none_belongs_is_not_read(method: str) -> None:
    async def handler(asked: Ask) -> Page:
        assert asked.body == b""
        return 204, "", b""

    answer = ask(handler, method, "/", content=b"body")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-type" not in answer.headers


def test_a_body_has_a_limit() -> None:
    assert ask(echo, "POST", "/", 4, content=b"body").status_code == 200
    answer = ask(echo, "POST", "/", 3, content=b"body")
    assert (answer.status_code, answer.json()["code"]) == (400, "body_too_large")


def test_a_refusal_is_a_problem_document() -> None:
    async def refuses(asked: Ask) -> Page:
        raise NotFound("no_such_thing", "it isn't there", "look elsewhere")

    answer = ask(refuses, "GET", "/")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert {key: answer.json()[key] for key in ("code", "detail", "remedy")} == {
        "code": "no_such_thing",
        "detail": "it isn't there",
        "remedy": "look elsewhere",
    }


def test_who_asks_too_often_is_told_when_to_come_back() -> None:
    async def refuses(asked: Ask) -> Page:
        raise Throttled("too_often", "too often", retry_after=7)

    assert ask(refuses, "GET", "/").headers["retry-after"] == "7"


def test_a_query_of_a_million_fields_is_refused_or_read_but_fails_nothing() -> None:
    assert ask(echo, "GET", "/?" + "&".join("a" for _ in range(5000))).status_code in (200, 400)


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 200_000])
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        Ask("POST", "/", (), body).json()
    assert refused.value.code == "bad_json"


def test_an_operator_is_who_the_kernel_says() -> None:
    async def who(asked: Ask) -> Page:
        if asked.path != "/":
            raise no_page(asked)
        return json_page(asked.operator)

    async def scenario() -> tuple[Any, int]:
        with short_directory() as directory, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(directory / "s"))
            listening.listen()
            server = await serve_pages(listening, who)
            transport = httpx.AsyncHTTPTransport(uds=str(directory / "s"))
            async with httpx.AsyncClient(transport=transport) as client:
                told, missing = await client.get("http://x/"), await client.get("http://x/other")
            await server.stop()
            return json.loads(told.content), missing.status_code

    assert asyncio.run(scenario()) == (f"uid:{os.getuid()}", 404)
