"""What is recorded on an agent's host besides decisions: events of its programs, and what its Envoys refused."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import uvicorn

from rempart.audit.access_log import Collapser, read_line
from rempart.audit.api import events_app
from rempart.audit.journal import Journal
from rempart.audit.pipes import LineReader
from rempart.kernel.errors import Unavailable
from rempart.kernel.event import Event
from rempart.protocols.ocsf import encode

from .agent_parts import MAX_BACKLOG
from .asgi import asgi_server

MOST_WAITING = MAX_BACKLOG // 4 * 3
"""Bytes that wait for the server, from which on applications' events are refused: the same journal records the SVIDs of
all programs of the host, which must not end because one of them tells too much."""
_log = logging.getLogger("rempart.host-agent")


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
        self._journal, self._collapser, self._waiting = journal, Collapser(), waiting
        self.servers: list[tuple[uvicorn.Server, socket.socket]] = [
            (asgi_server(events_app(self, name)), sockets[f"events:{name}"]) for name in sources
        ]
        loop = asyncio.get_running_loop()
        for envoy, descriptor in access_logs.items():
            LineReader(descriptor, partial(self._take_line, envoy)).start(loop)

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
            self._record(self._collapser.drain(time.time()))

    def _take_line(self, envoy: str, line: bytes) -> None:
        event = read_line(line, envoy, time.time())
        if event is not None and (event := self._collapser.take(event)) is not None:
            self._record([event])

    def _record(self, events: list[Event]) -> None:
        """A refusal of Envoy's own was answered already; when it can't be recorded, that is all that is lost."""
        try:
            for event in events:
                self._journal.append(encode(event, self._journal.source))
            self._journal.commit()
        except Unavailable as error:
            _log.error("refusals are not recorded: %s", error)
