"""What leaves a protected application: problem documents for every refusal, and the ids that trace an answer."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from rempart.kernel.errors import RempartError
from rempart.kernel.problem import CONTENT_TYPE

from .problems import Headers, encode, from_foreign

Message = MutableMapping[str, Any]
_MAX_HELD = 64 * 1024
log = logging.getLogger("rempart.sdk")


class GuardedSend:
    """An ASGI `send` that holds back a framework's own error page until it is known what to say instead.

    Frameworks answer an exception of ours with a page of their own and raise it again: holding the page lets the
    refusal be told in full, wherever in the stack of middleware `Protect` stands.
    """

    def __init__(self, send: Callable[[Message], Awaitable[None]], *, request_id: str, decision_id: str) -> None:
        self._send = send
        self._ids: Headers = [(b"x-request-id", request_id.encode("latin-1", "replace"))]
        if decision_id:
            self._ids.append((b"x-rempart-decision", decision_id.encode("latin-1", "replace")))
        self._decision_id = decision_id
        self._started = False
        self._held: Message | None = None
        self._body = b""
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(bytes(k).lower(), bytes(v)) for k, v in message.get("headers", ())]
            self.status = message["status"]
            content_type = dict(headers).get(b"content-type", b"")
            if self.status >= 400 and not content_type.startswith(CONTENT_TYPE.encode()):
                self._held = {**message, "headers": headers}
                return
            own = {name for name, _ in headers}
            self._started = True
            await self._send({**message, "headers": headers + [pair for pair in self._ids if pair[0] not in own]})
        elif self._held is not None:
            self._body = (self._body + bytes(message.get("body", b"")))[:_MAX_HELD]
        else:
            await self._send(message)

    async def finish(self) -> None:
        """The application returned: tell the error page that it left, if one is held."""
        if self._held is None:
            return
        headers = dict(self._held["headers"])
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        status, told, body = from_foreign(self.status, content_type, self._body, decision_id=self._decision_id)
        told += [(name, headers[name]) for name in (b"allow", b"retry-after") if name in headers]
        await self._out(status, told, body)

    async def refuse(self, error: RempartError, *, token_sent: bool) -> None:
        if self._started:
            log.error("refused after the answer had begun: %s", error.code)
            raise error
        if error.decision_id:  # what an inner service decided says more than what let the request in here
            self._ids = [pair for pair in self._ids if pair[0] != b"x-rempart-decision"]
            self._ids.append((b"x-rempart-decision", error.decision_id.encode("ascii", "replace")))
        await self._out(*encode(error, decision_id=self._decision_id, token_sent=token_sent))

    async def fail(self) -> None:
        """500 without a word about why: that is in the log under the request id."""
        if self._started:
            raise ConnectionError("the answer broke off")
        status, headers, body = from_foreign(500, "", b"", decision_id=self._decision_id)
        await self._out(status, headers, body)

    async def _out(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self._started = True
        self._held = None
        length = [(b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": headers + length + self._ids})
        await self._send({"type": "http.response.body", "body": body})
