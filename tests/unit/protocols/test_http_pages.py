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
from rempart.protocols.http_pages import (
    NO_CONTENT,
    Ask,
    Handler,
    Page,
    Route,
    json_page,
    no_page,
    paged,
    routed,
    serve_pages,
)


def ask(handler: Handler, method: str, url: str, **how: Any) -> httpx.Response:
    async def scenario() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(paged(handler))) as client:
            return await client.request(method, f"http://x{url}", **how)

    return asyncio.run(scenario())


async def echo(asked: Ask) -> Page:
    return json_page([asked.method, asked.path, asked.given, (await asked.body(4)).decode(), asked.values(b"accept")])


def test_what_is_asked_reaches_the_handler() -> None:
    answer = ask(echo, "POST", "/a%20b?x=1&y=&x=2", content=b"body", headers={"accept": "text/plain"})
    assert answer.json() == ["POST", "/a b", [["x", "1"], ["y", ""], ["x", "2"]], "body", ["text/plain"]]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


def test_a_query_by_name_has_the_last_of_each() -> None:
    assert Ask("GET", "/", (("a", "1"), ("a", "2"), ("b", ""))).query == {"a": "2", "b": ""}


def test_what_says_so_may_be_kept_and_what_has_no_content_has_no_kind() -> None:
    async def handler(asked: Ask) -> Page:
        return json_page({}, {"cache-control": "max-age=5"}) if asked.path == "/kept" else NO_CONTENT

    assert ask(handler, "GET", "/kept").headers["cache-control"] == "max-age=5"
    empty = ask(handler, "GET", "/")
    assert (empty.status_code, empty.content) == (204, b"")
    assert "content-type" not in empty.headers


def test_a_body_has_a_limit() -> None:
    assert ask(echo, "POST", "/", content=b"body").status_code == 200
    answer = ask(echo, "POST", "/", content=b"body.")
    assert (answer.status_code, answer.json()["code"]) == (400, "body_too_large")


def test_who_reads_a_body_says_what_its_limit_is_called() -> None:
    async def handler(asked: Ask) -> Page:
        return json_page(len(await asked.body(3, code="bad_entries", remedy="split the file")))

    refusal = ask(handler, "POST", "/", content=b"body").json()
    assert (refusal["code"], refusal["remedy"]) == ("bad_entries", "split the file")


def test_who_leaves_in_the_middle_of_a_body_gets_no_answer() -> None:
    async def scenario() -> None:
        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError

        scope = {"method": "POST", "path": "/", "query_string": b"", "client": None, "headers": []}
        await paged(echo)(scope, receive, send)

    asyncio.run(scenario())


async def named(asked: Ask, *names: str) -> Page:
    return json_page([asked.method, *names])


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", "/things", 200, ["GET"]),
        ("HEAD", "/things", 200, None),
        ("GET", "/things/a%2Fb/c", 200, ["GET", "a/b/c"]),
        ("GET", "/things/a%0Ab", 200, ["GET", "a\nb"]),
        ("DELETE", "/things/a", 200, ["DELETE", "a"]),
        ("POST", "/things/a/turn", 200, ["POST", "a"]),
        ("POST", "/things//turn", 405, None),
        ("POST", "/things/a/b/turn", 405, None),
        ("PUT", "/things", 405, None),
        ("GET", "/things/", 404, None),
        ("GET", "/thingsx", 404, None),
        ("GET", "/x.y", 200, ["GET"]),
        ("GET", "/xzy", 404, None),
    ],
)
def test_what_is_found_where(method: str, path: str, status: int, told: Any) -> None:
    routes = [
        Route("GET", "/things", named),
        Route("POST", "/things/{}/turn", named),
        Route("GET", "/things/{*}", named),
        Route("DELETE", "/things/{*}", named),
        Route("GET", "/x.y", named),
    ]
    answer = ask(routed(routes), method, path)
    assert answer.status_code == status
    if told is not None:
        assert answer.json() == told
    if status == 405:
        assert answer.json()["code"] == "bad_method"


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


def test_a_query_of_thousands_of_fields_is_refused() -> None:
    answer = ask(echo, "GET", "/?" + "&".join("a" for _ in range(5000)))
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_query")


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 200_000])
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    with pytest.raises(BadInput) as refused:
        asyncio.run(Ask("POST", "/", receive=receive).json())
    assert refused.value.code == "bad_json"


def test_an_operator_is_who_the_kernel_says() -> None:
    async def who(asked: Ask) -> Page:
        if asked.path != "/":
            raise no_page(asked)
        return json_page(asked.client)

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
