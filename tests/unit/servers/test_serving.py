"""What a process serves beside its work, and who may see it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from rempart.servers.serving import metrics_alone


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics", 200),
        ("GET", "/healthz", 200),
        ("POST", "/metrics", 404),
        ("GET", "/risks", 404),
        ("DELETE", "/risks/usr_1", 404),
        ("POST", "/silences", 404),
        ("GET", "/metrics/../risks", 404),
    ],
)
def test_who_may_read_metrics_is_no_operator(method: str, path: str, status: int) -> None:
    reached = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await PlainTextResponse("done")(scope, receive, send)

    async def scenario() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(metrics_alone(app))) as client:
            asked = client.build_request(method, "http://x/")
            asked.url = asked.url.copy_with(raw_path=path.encode())
            return (await client.send(asked)).status_code

    assert asyncio.run(scenario()) == status
    assert bool(reached) == (status == 200)
