"""GET one JSON object of a program on this host, in bounded time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput, Unavailable

if TYPE_CHECKING:
    import httpx


async def get_json(
    transport: httpx.AsyncHTTPTransport,
    url: str,
    *,
    within_s: float,
    most: int,
    headers: Mapping[str, str] | None = None,
    post: Any = None,
) -> Mapping[str, Any]:
    """`post`: POST this (JSON) instead. `within_s` for all of it, `most` in bytes. Redirects are not followed.

    Raises Unavailable `no_answer`.
    """
    import httpx

    body = bytearray()
    try:
        async with (
            asyncio.timeout(within_s),
            httpx.AsyncClient(transport=transport, timeout=within_s, trust_env=False) as client,
            client.stream("GET" if post is None else "POST", url, headers=headers, json=post) as answer,
        ):
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > most:
                    raise Unavailable("no_answer", f"{url} answers with more than {most} bytes")
        document = strict_json.loads(bytes(body)) if answer.status_code in (200, 201) else None
    except (httpx.HTTPError, OSError, TimeoutError, BadInput) as error:
        raise Unavailable("no_answer", f"{url} does not answer: {type(error).__name__}") from None
    if not isinstance(document, dict):
        raise Unavailable("no_answer", f"{url} answers {answer.status_code}")
    return document
