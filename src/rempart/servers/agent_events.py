"""An agent's journal, told to its server: what is durable here becomes part of the record there."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import msgspec

from rempart.audit.reader import START, Cursor, JournalReader
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import RempartError, Unavailable
from rempart.workloads.agents import messages
from rempart.workloads.agents.messages import Told, ToldAll
from rempart.workloads.ports import ServerConnection

TOGETHER = 500
MAX_BYTES = messages.MAX_REQUEST // 2
TELL_WITHIN = 20.0
_LOOK = 0.5
_RETRY = (1.0, 60.0)
_HOISTED = ("rule", "policy_version", "pep", "method", "path", "status", "code")


class JournalTelling:
    """What was told is remembered in `journal/told`; killed in between, some of it is told twice, and kept once."""

    def __init__(self, journal: Path, server: ServerConnection) -> None:
        self._remembered = journal / "told"
        self._server = server
        self._cursor = START
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            self._cursor = msgspec.json.decode(self._remembered.read_bytes(), type=Cursor)
        self._reader = JournalReader(journal, self._cursor)

    async def keep_telling(self) -> None:
        """For ever; while the server is away, the journal grows."""
        wait = _RETRY[0]
        while True:
            try:
                more = await self.tell_some()
                wait = _RETRY[0]
            except (OSError, RempartError) as error:
                if isinstance(error, RempartError) and not isinstance(error, Unavailable):
                    wait = _RETRY[1]  # it will say the same for a while: an agent that was banned
                self._reader.rewind(self._cursor)
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # nosec B311 - jitter, no secret
                wait = min(wait * 2, _RETRY[1])
                continue
            if not more:
                await asyncio.sleep(_LOOK)

    async def tell_some(self) -> bool:
        """True while there may be more. Raises as `ServerConnection.ask`, and OSError."""
        records = self._reader.read(TOGETHER).records
        waiting: list[Told] = []
        size = 0
        for payload in [payload for _, payload in records]:
            if size + len(payload) > MAX_BYTES:
                await self._tell(waiting)
                waiting, size = [], 0
            told = _told(payload)
            if told is not None:
                waiting.append(told)
                size += len(payload)
        await self._tell(waiting)
        if self._reader.cursor != self._cursor:
            self._cursor = self._reader.cursor
            await asyncio.to_thread(replace_file, self._remembered, msgspec.json.encode(self._cursor))
            self._reader.delete_integrated(self._cursor)
        return len(records) >= TOGETHER

    async def _tell(self, events: list[Told]) -> None:
        if events:
            await self._server.ask("POST", "/v1/events", messages.encode(ToldAll(events)), within_s=TELL_WITHIN)

    def close(self) -> None:
        self._reader.close()


def _told(payload: bytes) -> Told | None:
    """Of what `protocols.ocsf.encode` wrote, its own part."""
    try:
        own: dict[str, Any] = msgspec.json.decode(payload)["unmapped"]["rempart"]
        details = {**own.get("details", {}), **{name: own[name] for name in _HOISTED if name in own}}
        return Told(
            id=own["id"],
            type=own["type"],
            at=own["at"] / 1000,
            success=own["success"],
            severity=own["severity"],
            reason=own.get("reason", ""),
            workload=own.get("workload", ""),
            details=details,
        )
    except (msgspec.DecodeError, KeyError, TypeError):
        return None
