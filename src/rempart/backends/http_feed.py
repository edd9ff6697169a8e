"""The sequencer's feed over its unix socket."""

from __future__ import annotations

import httpx
import msgspec

from rempart.audit.feed import Page
from rempart.kernel.errors import Unavailable

_decode = msgspec.json.Decoder(Page).decode


class HttpFeed:
    """Implements `audit.ports.Feed`. Safe for many tasks."""

    def __init__(self, socket: str) -> None:
        transport = httpx.AsyncHTTPTransport(uds=socket, limits=httpx.Limits(max_connections=64))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://sequencer", trust_env=False)

    async def read(self, start: int, wait: float) -> Page:
        try:
            answer = await self._client.get(f"/entries/{start}", params={"wait": int(wait)}, timeout=wait + 10.0)
            if answer.status_code == 200:
                return _decode(answer.content)
            why = f"answered {answer.status_code}"
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            why = f"no answer: {type(error).__name__}"
        raise Unavailable("feed_unavailable", f"the record can't be read: {why}", "see `rempart status`")

    async def close(self) -> None:
        await self._client.aclose()
