"""Refusals over HTTP are problem documents that no cache keeps, and say when to come again."""

from __future__ import annotations

import asyncio

import httpx
from starlette.requests import Request
from starlette.responses import Response

from rempart.kernel.errors import NotFound, RempartError, Throttled
from rempart.protocols.http_answers import json_response, served


def answered(error: RempartError | None) -> httpx.Response:
    async def answer(request: Request) -> Response:
        if error is not None:
            raise error
        return json_response({"ok": True})

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served(answer)), base_url="http://x") as client:
            return await client.get("/")

    return asyncio.run(ask())


def test_an_answer_is_json_and_not_kept() -> None:
    found = answered(None)
    assert (found.status_code, found.json(), found.headers["cache-control"]) == (200, {"ok": True}, "no-store")


def test_a_refusal_is_a_problem_document() -> None:
    found = answered(NotFound("no_such_thing", "there is none", "make one"))
    assert (found.status_code, found.headers["content-type"]) == (404, "application/problem+json")
    assert (found.json()["code"], found.json()["remedy"]) == ("no_such_thing", "make one")
    assert "retry-after" not in found.headers


def test_who_is_throttled_is_told_when_to_come_again() -> None:
    assert answered(Throttled("too_many", "too many", retry_after=7)).headers["retry-after"] == "7"
