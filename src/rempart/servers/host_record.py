"""What is recorded on an agent's host besides decisions: events of its programs, and what its Envoys refused."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence

from rempart.audit.api import events
from rempart.audit.envoy_refusals import EnvoyRefusals
from rempart.audit.journal import Journal
from rempart.kernel.errors import Unavailable
from rempart.kernel.event import Event
from rempart.protocols.asgi_server import AsgiServer
from rempart.protocols.http_pages import paged
from rempart.protocols.ocsf import encode

from .agent_parts import MAX_BACKLOG

MOST_WAITING = MAX_BACKLOG // 4 * 3
"""Bytes that wait for the server, from which on applications' events are refused: the same journal records the SVIDs of
all programs of the host, which must not end because one of them tells too much."""


class HostRecord:
    """`servers` are to be run; `access_logs` maps an Envoy's name to the read end of its output; `waiting` tells how
    many bytes of the journal the server has not got. One event loop."""

    def __init__(
        self,
        journal: Journal,
        sockets: Mapping[str, socket.socket],
        sources: Sequence[str],
        access_logs: Mapping[str, int],
        waiting: Callable[[], int],
    ) -> None:
        self._journal, self._waiting = journal, waiting
        self.servers: list[tuple[AsgiServer, socket.socket]] = [
            (AsgiServer(paged(events(self, name))), sockets[f"events:{name}"]) for name in sources
        ]
        self._refusals = EnvoyRefusals(journal, access_logs)
        self._refusals.start()

    async def keep(self, events: list[Event]) -> None:
        """Return when durable. Raises Unavailable `journal_backlog_full` and as the journal does."""
        if (waiting := self._waiting()) > MOST_WAITING:
            why = f"{waiting} bytes of events wait for the gateway's host"
            raise Unavailable("journal_backlog_full", why, "see `rempart agent status`")
        payloads = [encode(event, self._journal.source) for event in events]
        await asyncio.gather(*(self._journal.record_bytes(payload, repeat=True) for payload in payloads))

    async def keep_counting(self) -> None:
        """For ever: how often the same was refused."""
        while True:
            await asyncio.sleep(1.0)
            self._refusals.count()
