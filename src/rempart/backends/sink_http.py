"""POST to another system: no redirects, no proxies of the environment, bounded in time and in what is read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from rempart.audit.ports import Busy
from rempart.kernel.errors import Unavailable

from .sink_tls import Trust

_WITHIN = 60.0
_LARGEST_ANSWER = 16 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


class SinkHttp:
    """`url` is of the receiver and has no trailing slash; `headers` go with every request. `shown` stands for it in
    errors where the URL itself is a secret."""

    def __init__(
        self,
        url: str,
        trust: Trust,
        headers: Mapping[str, str],
        auth: tuple[str, str] | None = None,
        *,
        shown: str = "",
    ) -> None:
        self.url = url
        self.shown = shown or url
        self._client = httpx.AsyncClient(
            verify=trust.context() if url.startswith("https:") else False,
            headers={**headers, "accept-encoding": "identity"},
            auth=auth,
            timeout=httpx.Timeout(_WITHIN, connect=10.0),
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=2),
        )

    async def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Raises Unavailable for the network and 5xx, Busy for 429 and 503. What it answers is not trusted."""
        found = bytearray()
        try:
            async with (
                asyncio.timeout(_WITHIN),
                self._client.stream(method, self.url + path, content=body, headers=headers) as answer,
            ):
                async for part in answer.aiter_raw():  # nothing is unpacked: a few bytes could become any number
                    found += part
                    if len(found) > _LARGEST_ANSWER:
                        raise self._unavailable("answers without end")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            why = "" if self.shown != self.url else f" {error}"
            raise self._unavailable(f"does not answer: {type(error).__name__}{why}"[:300]) from None
        status = answer.status_code
        if status in (429, 503):
            raise busy(self.shown, status, answer.headers.get("retry-after", ""))
        if status in (401, 403):
            raise self._unavailable(f"refuses our credentials ({status})")
        if status >= 500 or 300 <= status < 400:
            raise self._unavailable(f"answered {status}")
        return Answer(status, bytes(found))

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(
            "sink_unavailable", f"{self.shown} {what}", "see [[audit.sink]] or [[alerting.channel]] in rempart.toml"
        )

    async def close(self) -> None:
        await self._client.aclose()


def busy(url: str, status: int, retry_after: str = "") -> Busy:
    error = Busy("sink_busy", f"{url} asks for less ({status})", "it is sent less, and again")
    if retry_after.isascii() and retry_after.isdigit():
        error.retry_after = min(float(retry_after), 300.0)
    return error
