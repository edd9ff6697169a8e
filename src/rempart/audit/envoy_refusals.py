"""What Envoys refuse by themselves, from their output into a journal."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial

from rempart.kernel.errors import Unavailable
from rempart.kernel.event import Event
from rempart.protocols.ocsf import encode

from .access_log import Collapser, read_line
from .journal import Journal
from .pipes import LineReader

_log = logging.getLogger(__name__)


class EnvoyRefusals:
    """`access_logs` maps an Envoy's name to the read end of its output. One event loop."""

    def __init__(self, journal: Journal, access_logs: Mapping[str, int]) -> None:
        self._journal, self._access_logs, self._collapser = journal, access_logs, Collapser()

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        for envoy, descriptor in self._access_logs.items():
            LineReader(descriptor, partial(self.take, envoy)).start(loop)

    def take(self, envoy: str, line: bytes) -> None:
        """The first of its kind in this second is recorded at once, the others are counted."""
        event = read_line(line, envoy, time.time())
        if event is not None and (event := self._collapser.take(event)) is not None:
            self._record([event])

    def count(self) -> None:
        """Once a second: record how often the same was refused."""
        self._record(self._collapser.drain(time.time()))

    def _record(self, events: Sequence[Event]) -> None:
        """A refusal of Envoy's own was answered already; when it can't be recorded, that is all that is lost."""
        try:
            for event in events:
                self._journal.append(encode(event, self._journal.source))
            self._journal.commit()
        except Unavailable as error:
            _log.error("refusals are not recorded: %s", error)
