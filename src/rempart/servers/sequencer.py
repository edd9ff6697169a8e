"""The sequencer process: journals into the Merkle log, search, proofs, events of applications, Envoy's access logs.

Sockets: `admin` and `audit` (reading), `events:SERVICE` (taking in), `metrics`. It must be the only one that writes
`data/sequencer`. When the disk refuses, it goes on trying; the journals keep what was recorded meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from pathlib import Path

from rempart.audit.admin_api import administration
from rempart.audit.administration import RecordAdministration
from rempart.audit.api import events, feed, metrics, reading, unavailable
from rempart.audit.cosigning import Cosigning, Named
from rempart.audit.envoy_refusals import EnvoyRefusals
from rempart.audit.journal import Journal
from rempart.audit.log import MerkleLog
from rempart.audit.log_keys import LogKeyRing
from rempart.audit.metrics import page
from rempart.audit.personal import PersonalData
from rempart.audit.retention import Holds, Retention
from rempart.audit.search_turns import SearchTurns
from rempart.audit.sequencer import Sequencer
from rempart.backends.http_witness import HttpWitness
from rempart.backends.sqlite_person_keys import SqlitePersonKeys
from rempart.backends.sqlite_search import SqliteSearch
from rempart.crypto.cosigning import CosignatureVerifier
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import BadInput, Integrity, RempartError, Unavailable
from rempart.kernel.event import Event, EventType, Severity
from rempart.protocols.asgi_server import AsgiServer
from rempart.protocols.http_pages import paged
from rempart.protocols.ocsf import encode
from rempart.telemetry.spans import INTERNAL, Span, new_span_id, new_trace_id
from rempart.wiring.catalog import MOST_INSTANCES, instance_names
from rempart.wiring.process_settings import SequencerSettings

from .boot import Boot
from .log_store import open_storage
from .tracing import exporter

_log = logging.getLogger("rempart.sequencer")
_SHORTEST, _LONGEST = 0.02, 0.2  # seconds between looks at the journals: after work, and when idle
_MUCH = 16  # rounds of indexing
_AFTER_FAILURE = 0.5
_COSIGN_EVERY = 1.0


class SequencerProcess:
    """Implements `audit.api.Service`."""

    def __init__(self, boot: Boot, settings: SequencerSettings) -> None:
        boot.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = boot.keys.get(boot.name)
        if key is None:
            raise BadInput("no_key", "the sequencer was given no key", "start it with `rempart up`")
        storage = open_storage(settings.store, boot.data_dir)
        begun = boot.data_dir / "begun"
        if begun.exists() and storage.load_state() is None:
            raise Integrity(
                "log_missing", "there was a log and it is gone", "restore it; never begin another in silence"
            )
        has_log = storage.read("checkpoint") is not None
        ring = LogKeyRing(boot.data_dir / "log.keys.sealed", settings.origin, key, SystemClock(), has_log=has_log)
        self._keys = ring
        self.journal = Journal(boot.journal_dir, boot.name)
        self._personal = PersonalData(
            SqlitePersonKeys(boot.data_dir / "persons.db", key),
            frozenset((*instance_names(MOST_INSTANCES), "sequencer")),
        )
        log = MerkleLog(storage, ring, self._personal)
        begun.touch()
        self.sequencer = Sequencer(log, Path(settings.journals_dir), self.journal, self._open_index)
        holds = Holds(boot.data_dir / "holds.json")
        retention = Retention(log, settings.retention, holds, boot.data_dir / "exports")
        self.administration = RecordAdministration(
            self.sequencer, ring, holds, retention, self.journal, self.integrated
        )
        self._boot = boot
        self._settings = settings
        self._stopping = asyncio.Event()
        self._wanted = asyncio.Event()
        self._growth = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._refusals = EnvoyRefusals(self.journal, settings.access_logs)
        self.turns = SearchTurns()
        self._spans = exporter(boot)
        self.cosigning = Cosigning(
            log,
            ring,
            [Named(CosignatureVerifier.parse(key), HttpWitness(url)) for url, key in settings.witnesses.items()],
            settings.witness_quorum,
            boot.data_dir / "witnessed",
            self._alarm,
        )

    async def integrated(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wanted.set()
        try:
            await asyncio.wait_for(waiter, 2.0)
        except TimeoutError:
            raise unavailable("the journals could not be integrated in time") from None

    async def grown(self, size: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.sequencer.log.size <= size and not self._stopping.is_set() and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._growth.wait(), deadline - time.monotonic())

    async def keep(self, events: list[Event]) -> None:
        payloads = [encode(event, self.journal.source) for event in events]
        await asyncio.gather(*(self.journal.record_bytes(payload, repeat=True) for payload in payloads))

    def _open_index(self) -> SqliteSearch:
        """Of this log, with the data of so many persons: when one more is erased, it is made anew without theirs."""
        log_id = f"{self._keys.keys[0].verifier} {self._personal.keys.destroyed}"
        return SqliteSearch(self._boot.data_dir / "search.db", log_id)

    def metrics(self) -> str:
        return page(self.sequencer) + (self._spans.metrics() if self._spans else "")

    # -- running -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until SIGTERM."""
        boot = self._boot
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        self._refusals.start()
        servers = []
        for name, listening in boot.sockets.items():
            if name == "admin":
                handler = administration(self)
            elif name == "audit":
                handler = reading(self)
            elif name.startswith("feed:"):
                handler = feed(self)
            elif name == "metrics":
                handler = metrics(self)
            elif name.startswith("events:"):
                program = name.removeprefix("events:")
                handler = events(self, program, self._settings.records.get(program, ()))
            else:
                continue
            servers.append((AsgiServer(paged(handler), name_operator=name == "admin"), listening))
        try:
            async with asyncio.TaskGroup() as group:
                for server, listening in servers:
                    await server.listen(listening)
                group.create_task(self._sequence())
                group.create_task(self._count_refusals())
                if self._settings.witnesses:
                    group.create_task(self._cosign())
                boot.ready()
                await self._stopping.wait()
                self._tell_growth()
                await asyncio.gather(*(server.stop() for server, _ in servers))
        finally:
            self.close()

    async def _sequence(self) -> None:
        pause = _SHORTEST
        while not self._stopping.is_set():
            waiters, self._waiters = self._waiters, []
            self._wanted.clear()
            try:
                read = self._integrate()
            except (OSError, Unavailable) as error:
                _log.error("events wait in the journals: %s", error)
                self._waiters = waiters + self._waiters
                await self._pause(_AFTER_FAILURE)
                continue
            if read:
                self._tell_growth()
            if self.sequencer.behind or self.sequencer.deferred:
                self._waiters = waiters + self._waiters
                deferred = self.sequencer.deferred
                more = self._index(everything=deferred)  # what was just integrated: later it would have to be read
                await asyncio.sleep(0 if self.sequencer.behind or more else _SHORTEST)
                continue
            if waiters:
                self._index(everything=True)
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
            indexing = self._index()
            if indexing:
                await asyncio.sleep(0)
                continue
            pause = _SHORTEST if read else min(_LONGEST, pause * 1.5)
            await self._pause(pause)

    def _integrate(self) -> int:
        """One cycle; of some, as `[tracing] percent` says, a trace of their own: they serve many requests."""
        if self._spans is None or not self._spans.begins():
            return self.sequencer.cycle()
        started, size = time.time_ns(), self.sequencer.log.size
        read = self.sequencer.cycle()
        if read:
            told = {"rempart.records": read, "rempart.integrated": self.sequencer.log.size - size}
            told["rempart.log_size"] = self.sequencer.log.size
            trace, span = new_trace_id(), new_span_id()
            self._spans.put(Span(trace, span, "", "integrate", INTERNAL, started, time.time_ns(), told))
        return read

    def _tell_growth(self) -> None:
        """Wake everybody that waits for more events."""
        self._growth.set()
        self._growth = asyncio.Event()

    def _index(self, *, everything: bool = False) -> bool:
        """Index some, or much; True while there is more to do. A failed index never stops integration."""
        try:
            return all(self.sequencer.index_some() for _ in range(_MUCH if everything else 1))
        except RempartError as error:
            _log.error("the search index is behind: %s", error)
            return False

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wanted.wait(), seconds)

    async def _count_refusals(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1.0)
            self._refusals.count()

    async def _cosign(self) -> None:
        while not self._stopping.is_set():
            try:
                await self.cosigning.ask()
            except (OSError, RempartError) as error:
                _log.error("the log is not witnessed: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _COSIGN_EVERY)

    async def _alarm(self, why: str) -> None:
        event = Event(type=EventType.ALARM, at=time.time(), success=False, severity=Severity.CRITICAL, reason=why[:300])
        await self.journal.record(event)

    def close(self) -> None:
        try:
            self.sequencer.close()
            self.sequencer.log.close()
        finally:
            self.journal.close()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    boot = Boot.from_environment()
    settings = boot.read_settings(SequencerSettings)

    async def run() -> None:
        await SequencerProcess(boot, settings).run()

    asyncio.run(run())


if __name__ == "__main__":
    main()
