"""SPIRE's server API over its administrative unix socket: entries, the trust bundle, agents.

Who may open that socket is SPIRE's administrator. Nothing is kept; each call is one RPC on a connection that stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from grpclib import GRPCError, Status
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.config import Configuration
from grpclib.exceptions import ProtocolError, StreamTerminatedError

from rempart.kernel.errors import Denied, Unavailable
from rempart.protocols.spire import server_pb2 as wire

TIMEOUT = 30.0
PAGE = 500
_ENTRY = "/spire.api.server.entry.v1.Entry/"
_BUNDLE = "/spire.api.server.bundle.v1.Bundle/"
_AGENT = "/spire.api.server.agent.v1.Agent/"
Result = tuple[int, str]
"""A gRPC code, 0 for done, and what SPIRE says to it."""


class SpireApi:
    """Raises Unavailable `spire_unavailable`, Denied `spire_refused`. One event loop."""

    def __init__(self, socket: Path) -> None:
        self._path = socket
        self._channel: Channel | None = None

    async def entries(self) -> list[wire.Entry]:
        found: list[wire.Entry] = []
        token = ""  # nosec B105 - where a page begins
        while True:
            request = wire.ListEntriesRequest(page_size=PAGE, page_token=token)
            page = await self._call(_ENTRY + "ListEntries", request, wire.ListEntriesResponse)
            found += page.entries
            token = page.next_page_token
            if not token:
                return found

    async def create(self, entries: Sequence[wire.Entry]) -> list[Result]:
        """What became of each, in their order."""
        return await self._batches("BatchCreateEntry", entries, lambda part: wire.EntriesRequest(entries=part))

    async def update(self, entries: Sequence[wire.Entry]) -> list[Result]:
        return await self._batches("BatchUpdateEntry", entries, lambda part: wire.EntriesRequest(entries=part))

    async def delete(self, ids: Sequence[str]) -> list[Result]:
        return await self._batches(
            "BatchDeleteEntry", ids, lambda part: wire.DeleteEntriesRequest(ids=part), wire.DeleteResults
        )

    async def _batches(
        self, method: str, items: Sequence[Any], ask: Callable[[Sequence[Any]], Any], reply: type = wire.EntryResults
    ) -> list[Result]:
        results: list[Result] = []
        for first in range(0, len(items), PAGE):
            answer = await self._call(_ENTRY + method, ask(items[first : first + PAGE]), reply)
            results += [(one.status.code, one.status.message) for one in answer.results]
        return results

    async def bundle(self) -> wire.Bundle:
        found: wire.Bundle = await self._call(_BUNDLE + "GetBundle", wire.GetBundleRequest(), wire.Bundle)
        return found

    async def append_bundle(self, request: wire.AppendBundleRequest) -> None:
        """Its agents hand these on as trusted, too."""
        await self._call(_BUNDLE + "AppendBundle", request, wire.Bundle)

    async def agents(self) -> list[wire.Agent]:
        found: list[wire.Agent] = []
        token = ""  # nosec B105 - where a page begins
        while True:
            request = wire.ListAgentsRequest(page_size=PAGE, page_token=token)
            page = await self._call(_AGENT + "ListAgents", request, wire.ListAgentsResponse)
            found += page.agents
            token = page.next_page_token
            if not token:
                return found

    async def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def _call(self, method: str, request: Any, reply: type) -> Any:
        if self._channel is None:
            self._channel = Channel(path=str(self._path), config=Configuration(http2_connection_window_size=1 << 22))
        try:
            call: Any = UnaryUnaryMethod(self._channel, method, type(request), reply)
            async with asyncio.timeout(TIMEOUT):
                return await call(request, timeout=TIMEOUT)
        except GRPCError as error:
            why = f"SPIRE refuses {method.rsplit('/', 1)[-1]}: {error.message or error.status.name}"
            if error.status is Status.UNAVAILABLE:
                raise self._unavailable(error.message or "") from None
            raise Denied("spire_refused", why, "see that the socket is the administrative one of the server") from None
        except (OSError, TimeoutError, ProtocolError, StreamTerminatedError) as error:
            await self.close()
            raise self._unavailable(str(error) or type(error).__name__) from None

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(
            "spire_unavailable", f"no answer from SPIRE's server at {self._path}: {why}", "see that spire-server runs"
        )
