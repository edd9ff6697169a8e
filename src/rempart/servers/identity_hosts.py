"""Identity's part for hosts that run services: the policy in force here, and people's word of whose tokens are over,
passed on to the agents."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

import msgspec

from rempart.kernel.errors import BadInput, Unavailable

MAX_LINE = 4 << 20
SILENCE = 8.0
"""Seconds after which people counts as away."""
FRESH = 0.5
"""Seconds that the policy is not asked for again, however many hosts wait for another one."""


class _Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    run: str = ""
    seq: int = 0


class _Line(msgspec.Struct, frozen=True):
    run: str
    seq: int


class LocalEnforcement:
    """Implements `workloads.agents.host_api.Enforcement` on the unix sockets of this host's PDP and people."""

    def __init__(self, policies_socket: str, epochs_sockets: Sequence[str]) -> None:
        self._policies_socket = policies_socket
        self._people = list(epochs_sockets)
        self._asking = asyncio.Lock()
        self._told, self._told_at = b"", float("-inf")

    async def policy(self) -> bytes:
        if not self._policies_socket:
            return b""
        async with self._asking:
            if time.monotonic() - self._told_at >= FRESH:
                told = await self._ask()
                self._told = self._told if told == self._told else told
                self._told_at = time.monotonic()
            return self._told

    async def _ask(self) -> bytes:
        import httpx  # 6 MB, which an identity without other hosts doesn't need

        way = httpx.AsyncHTTPTransport(uds=self._policies_socket)
        try:
            async with httpx.AsyncClient(transport=way, base_url="http://pdp", trust_env=False, timeout=10.0) as pdp:
                answer = await pdp.get("/bundle")
        except httpx.HTTPError as error:
            raise Unavailable("pdp_away", f"the PDP does not tell its policy: {type(error).__name__}") from None
        if answer.status_code != 200:
            raise Unavailable("pdp_away", f"the PDP does not tell its policy: it answers {answer.status_code}")
        return answer.content

    async def epochs(self, position: bytes) -> bytes:
        """At once when there is news, else people's next sign of life. Raises BadInput `bad_request`, Unavailable.

        The instance that was heard last is asked first: one that hangs is waited for once, not at every question."""
        try:
            asked = msgspec.json.decode(position, type=_Position)
        except msgspec.DecodeError:
            raise BadInput("bad_request", "the position can't be read", "see docs/many-hosts.md") from None
        for path in tuple(self._people):
            with contextlib.suppress(OSError, TimeoutError, ValueError, msgspec.DecodeError):
                async with asyncio.timeout(SILENCE):
                    line = await _next_line(path, asked)
                self._people.sort(key=lambda other: other != path)
                return line
        raise Unavailable("people_away", "people does not tell whose tokens are over", "it is asked again by itself")


async def _next_line(path: str, asked: _Position) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE)
    try:
        writer.write(msgspec.json.encode(asked) + b"\n")
        first = await reader.readline()
        told = msgspec.json.decode(first, type=_Line)
        if (told.run, told.seq) != (asked.run, asked.seq):
            return first
        second = await reader.readline()  # the first one is immediate, and says nothing new
        msgspec.json.decode(second, type=_Line)
        return second
    finally:
        writer.close()
