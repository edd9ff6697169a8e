"""Small pages over HTTP: of processes that serve something else, and have no use for a web framework."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from rempart.kernel.errors import BadInput, NotFound, RempartError, Throttled
from rempart.kernel.problem import CONTENT_TYPE, problem

from .asgi_exchange import App, Message, Receive, Send
from .asgi_server import AsgiServer

JSON = "application/json"
MAX_BODY = 32 << 20
_BODYLESS = frozenset(("GET", "HEAD"))


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to a small page. `operator`: on an admin socket the local user who asks, by the kernel's word.
    `given`: the query's names and values, in their order."""

    method: str
    path: str
    given: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    operator: str = ""
    accept: str = ""

    @property
    def query(self) -> dict[str, str]:
        return dict(self.given)

    def json(self) -> Any:
        """Raises BadInput `bad_json`."""
        try:
            return json.loads(self.body) if self.body else {}
        except (ValueError, RecursionError) as error:
            raise BadInput("bad_json", f"the body is not JSON: {error}"[:200], "send one JSON document") from None


Page = tuple[int, str, bytes]
"""Status, type of content, content."""
Handler = Callable[[Ask], Awaitable[Page]]
"""May raise a RempartError, which becomes a problem document (RFC 9457)."""


def paged(handler: Handler, most: int = MAX_BODY) -> App:
    """As an ASGI application. A body of more than `most` bytes is refused; nothing is to be kept by caches."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        more: list[tuple[bytes, bytes]] = []
        try:
            body = b"" if scope["method"] in _BODYLESS else await _body(receive, most)
            if body is None:
                return
            status, kind, content = await handler(_ask(scope, body))
        except RempartError as error:
            status, kind, content = _refused(error)
            if isinstance(error, Throttled):
                more.append((b"retry-after", b"%d" % error.retry_after))
        headers = [(b"content-length", b"%d" % len(content)), (b"content-type", kind.encode())] if kind else []
        headers.append((b"cache-control", b"no-store"))
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *more]})
        await send({"type": "http.response.body", "body": content})

    return app


async def _body(receive: Receive, most: int) -> bytes | None:
    """None: whoever asked is gone."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message["body"])
        size, more = size + len(message["body"]), message["more_body"]
        if size > most:
            raise BadInput("body_too_large", f"more than {most} bytes", "send less at once")
    return b"".join(parts)


def _ask(scope: Message, body: bytes) -> Ask:
    accept = b", ".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
    try:
        given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    except ValueError:
        raise BadInput("bad_query", "the query has too many fields") from None
    client = scope["client"]
    return Ask(scope["method"], scope["path"], tuple(given), body, client[0] if client else "", accept)


def _refused(error: RempartError) -> Page:
    document = problem(error.status, error.code, error.reason, remedy=error.remedy)
    return error.status, CONTENT_TYPE, json.dumps(document).encode()


async def serve_pages(listening: socket.socket, handler: Handler) -> AsgiServer:
    """Until it is stopped."""
    server = AsgiServer(paged(handler), name_operator=True)
    await server.listen(listening)
    return server


def json_page(document: Any) -> Page:
    return 200, JSON, json.dumps(document).encode()


def no_page(ask: Ask) -> NotFound:
    return NotFound("no_such_resource", f"{ask.method} {ask.path[:200]} is nothing here", "see the documentation")
