"""Pages over HTTP, of processes that serve something else as well: for these a web framework is too much.

A handler is asked, and answers with a page; `routed` finds it by method and path, `paged` makes an ASGI application of
it.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from rempart.kernel.errors import BadInput, MethodNotAllowed, NotFound, RempartError, Throttled
from rempart.kernel.problem import CONTENT_TYPE, problem

from .asgi_exchange import App, Message, Receive, Send
from .asgi_server import AsgiServer

JSON = "application/json"
MAX_BODY = 32 << 20
_MAX_FIELDS = 100  # of a query


class _Gone(Exception):
    """Nobody waits for the answer."""


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def _there() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `client`: on an admin socket the local user who asks, by the kernel's word (`uid:N`), over TCP the
    address. `given`: the query's names and values, in their order. `peer`: the certificates that were shown, DER, leaf
    first. `gone` says whether nobody waits for the answer any more."""

    method: str
    path: str
    given: tuple[tuple[str, str], ...] = ()
    client: str = ""
    headers: Sequence[tuple[bytes, bytes]] = ()
    peer: Sequence[bytes] = ()
    receive: Receive = _nothing
    gone: Callable[[], bool] = _there

    @property
    def query(self) -> dict[str, str]:
        return dict(self.given)

    def values(self, name: bytes) -> list[str]:
        """Of a header, whose name is in small letters."""
        return [value.decode("latin-1") for found, value in self.headers if found == name]

    async def body(
        self, most: int = MAX_BODY, *, code: str = "body_too_large", remedy: str = "send less at once"
    ) -> bytes:
        """Once. Raises BadInput with that code for more than `most` bytes."""
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            parts.append(message["body"])
            size, more = size + len(message["body"]), message["more_body"]
            if size > most:
                raise BadInput(code, f"more than {most} bytes", remedy)
        return b"".join(parts)

    async def json(self) -> Any:
        """Raises BadInput `bad_json`, and as `body`."""
        body = await self.body()
        try:
            return json.loads(body) if body else {}
        except (ValueError, RecursionError) as error:
            raise BadInput("bad_json", f"the body is not JSON: {error}"[:200], "send one JSON document") from None


class Page(NamedTuple):
    """`kind`: its media type."""

    status: int
    kind: str
    content: bytes
    headers: Mapping[str, str] = {}


NO_CONTENT = Page(204, "", b"")
Handler = Callable[[Ask], Awaitable[Page]]
"""May raise a RempartError, which becomes a problem document (RFC 9457)."""


@dataclass(frozen=True, slots=True)
class Route:
    """`path` has `{}` for one part of it, and at its end `{*}` for all that follows: `handle` is given these, decoded,
    after what is asked."""

    method: str
    path: str
    handle: Callable[..., Awaitable[Page]]


def routed(routes: Sequence[Route]) -> Handler:
    """The first that fits. HEAD is answered as GET is."""
    known = [(route, _pattern(route.path)) for route in routes]

    async def answer(ask: Ask) -> Page:
        method = "GET" if ask.method == "HEAD" else ask.method
        others = []
        for route, pattern in known:
            if found := pattern.fullmatch(ask.path):
                if route.method == method:
                    return await route.handle(ask, *found.groups())
                others.append(route.method)
        if others:
            raise MethodNotAllowed("bad_method", f"{ask.method[:20]} is nothing here", f"use {' or '.join(others)}")
        raise no_page(ask)

    return answer


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\*?\})", path)
    return re.compile("".join({"{}": "([^/]+)", "{*}": "(.+)"}.get(part) or re.escape(part) for part in parts), re.S)


def paged(handler: Handler) -> App:
    """As an ASGI application. What doesn't say otherwise is not to be kept by caches."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        try:
            page = await handler(_ask(scope, receive))
        except RempartError as error:
            page = refused(error)
        except _Gone:
            return
        headers = {"cache-control": "no-store", **page.headers}
        if page.kind:
            headers |= {"content-length": str(len(page.content)), "content-type": page.kind}
        told = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": page.status, "headers": told})
        await send({"type": "http.response.body", "body": page.content})

    return app


def _ask(scope: Message, receive: Receive) -> Ask:
    try:
        given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise BadInput("bad_query", "the query has too many fields") from None
    client = scope["client"][0] if scope["client"] else ""
    peer, gone = scope.get("rempart.peer", ()), scope.get("rempart.gone", _there)
    return Ask(scope["method"], scope["path"], tuple(given), client, scope["headers"], peer, receive, gone)


def refused(error: RempartError, decision_id: str = "") -> Page:
    document = problem(error.status, error.code, error.reason, remedy=error.remedy, decision_id=decision_id)
    more = {"retry-after": str(error.retry_after)} if isinstance(error, Throttled) else {}
    return Page(error.status, CONTENT_TYPE, msgspec.json.encode(document), more)


async def serve_pages(listening: socket.socket, handler: Handler) -> AsgiServer:
    """Until it is stopped."""
    server = AsgiServer(paged(handler), name_operator=True)
    await server.listen(listening)
    return server


def json_page(document: Any, headers: Mapping[str, str] | None = None) -> Page:
    return Page(200, JSON, json.dumps(document).encode(), headers or {})


def no_page(ask: Ask) -> NotFound:
    return NotFound("no_such_resource", f"{ask.method[:20]} {ask.path[:200]} is nothing here", "see the documentation")
