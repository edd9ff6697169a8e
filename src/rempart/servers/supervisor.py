"""The supervisor: starts every process of a plan, keeps it running, says who is who, and stops everything.

It holds the keys that it hands out and all listening sockets. If it is killed, its children die with it
(PR_SET_PDEATHSIG) and the next start recovers by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rempart.audit.journal import Journal
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import BadInput, Conflict, NotFound, RempartError, Unavailable
from rempart.kernel.event import Event, EventType, Severity
from rempart.wiring.catalog import HOST_AGENT, MOST_INSTANCES, instance_names
from rempart.wiring.plan_model import Kind, Plan, Probe, Process, Socket

from .control import LineServer, Peer, for_identity, for_operator
from .disk_upstream import DiskUpstream
from .leftovers import kill_leftovers
from .managed import Managed
from .probes import has_token_keys
from .program_facts import ProgramFacts
from .provision import Provisions
from .root_jobs import RootJobs
from .root_keeper import GRACE, OVERLAP, RootKeeper
from .root_store import RootStore
from .spawn import Launch, children_of, parent_of, same_process, start_time
from .state_files import StateDirectory
from .status import status_document
from .supervisor_keys import SupervisorKeys
from .supervisor_metrics import serve_metrics
from .view import can_confine

START_WITHIN = 60.0
KEYS_WITHIN = 5.0
ISSUING_TTL = {"spiffe": 86400.0, "web": 86400.0}
LOG_BYTES = 8 << 20
_PR_SET_CHILD_SUBREAPER = 36
_STOP_ORDER: tuple[tuple[str, ...], ...] = (
    ("gateway", "client"),
    ("service",),
    ("sidecar",),
    (*instance_names(MOST_INSTANCES), "observer", "shipper", "notifier"),
    ("pdp", "identity"),
    ("detector", "models"),
    ("sequencer",),
)

Progress = Callable[[str, float], None]


class Supervisor:
    """`run` does everything; `progress` is told (process, seconds since the start) as each becomes ready."""

    def __init__(
        self,
        plan: Plan,
        state: StateDirectory,
        keys: SupervisorKeys,
        upstream: DiskUpstream | None,
        progress: Progress,
    ) -> None:
        self.plan, self.state, self.progress = plan, state, progress
        drop = os.geteuid() == 0
        self.confined = can_confine()
        self.provisions = Provisions(plan, state, keys.processes, drop=drop, confine=self.confined)
        logs = plan.state / "logs"
        self.managed = {
            process.name: Managed(process, self.provisions, logs / f"{process.name}.log", self.tell)
            for process in plan.processes
            if process.supervised
        }
        log = logs / "root-signer.log"
        self.jobs = RootJobs(self._launch_signer, log, plan.trust_domain, keys.sealing)
        store = RootStore(plan.state, upstream)
        self.roots = RootKeeper(store, self.jobs.make, ISSUING_TTL, self.tell, SystemClock())
        self.adopted: dict[int, tuple[int, Process]] = {}
        self.ready = False
        self.stopping = asyncio.Event()
        self._gone = False
        self.stopped: asyncio.Queue[str] = asyncio.Queue()
        self.started_at = time.monotonic()
        self.demo_accounts: str | None = None
        self._journal: Journal | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._save_due = False

    async def run(self, after_start: Callable[[], Any]) -> None:
        """Start all, call `await after_start()` when all are ready, stay until told to stop, stop all.

        Raises Unavailable `start_failed` with the failing process's last words; nothing is left running then either.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stopping.set)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        loop.add_signal_handler(signal.SIGCHLD, self._reap_orphans)
        os.umask(0o007)
        remembered = self.state.remembered
        kill_leftovers(remembered.instance, [(pid, started) for pid, started in remembered.running.values()])
        self.provisions.create()
        self.state.save()
        self._journal = Journal(self.plan.state / "journals" / "supervisor", "supervisor")
        if self.plan.unsafe_disabled:
            off = list(self.plan.unsafe_disabled)
            why = f"UNSAFE: started without {', '.join(off)}"
            await self.tell(EventType.SETTINGS_CHANGED, why, Severity.HIGH, {"unsafe_disabled": off})
        asker = "identity" if self.plan.authority else HOST_AGENT.name
        servers = [
            LineServer(
                self.provisions.listen(Socket("control", "run/control.sock")),
                for_operator(
                    self.who,
                    {
                        "status": self._op_status,
                        "down": self._op_down,
                        "adopt": self._op_adopt,
                        "rotate-root": self._op_rotate_root,
                    },
                ),
            ),
            LineServer(
                self.provisions.listen(Socket("supervisor", "run/supervisor.sock", owner=asker)),
                for_identity(self.who, ProgramFacts().of, self.sign, self.roots.told, asker),
            ),
        ]
        metrics = self.provisions.listen(Socket("metrics", "run/metrics/supervisor.sock", owner="observer"))
        try:
            for server in servers:
                await server.start()
            self._tasks.append(asyncio.create_task(serve_metrics(metrics, self)))
            self._tasks.append(asyncio.create_task(self._rotate_logs()))
            self._tasks.append(asyncio.create_task(self._stop_without_state()))
            if self.plan.authority:
                self._tasks.append(asyncio.create_task(self.roots.keep()))
            starting = asyncio.create_task(self._start_all())
            halted = asyncio.create_task(self.stopping.wait())
            await asyncio.wait({starting, halted}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await after_start()
                self.ready = True
                self._save_soon()
                await halted
            else:
                starting.cancel()
            halted.cancel()
        finally:
            self.ready = False
            await self._stop_all()
            for server in servers:
                await server.close()
            self.provisions.close()
            self._journal.close()
            remembered.running = {}
            if not self._gone:
                self.state.save()
        if self._gone:
            raise Unavailable("state_gone", "the state directory was deleted: everything was stopped", "start anew")

    async def _start_all(self) -> None:
        for managed in self.managed.values():
            managed.changed = self._changed
            self._tasks.append(asyncio.create_task(managed.keep()))
            await asyncio.sleep(0)
        deadline = time.monotonic() + START_WITHIN
        while waiting := [m for m in self.managed.values() if not m.ready]:
            for managed in waiting:
                if managed.restarts >= 2 or managed.last_exit == 126:
                    raise _start_failed(managed)
            if time.monotonic() > deadline:
                raise _start_failed(waiting[0])
            await asyncio.sleep(0.02)
        envoys = [m.process for m in self.managed.values() if m.process.probe is Probe.ENVOY]
        with contextlib.suppress(TimeoutError):  # they ask again by themselves; until then they refuse tokens
            async with asyncio.timeout(KEYS_WITHIN):
                for envoy in envoys:
                    while not await has_token_keys(envoy, self.plan.state):  # noqa: ASYNC110 - nobody tells
                        await asyncio.sleep(0.05)

    def _changed(self, managed: Managed) -> None:
        self._save_soon()
        if managed.ready:
            self.progress(managed.name, time.monotonic() - self.started_at)

    def _save_soon(self) -> None:
        if not self._save_due:
            self._save_due = True
            asyncio.get_running_loop().call_later(0.5, self._save)

    def _save(self) -> None:
        self._save_due = False
        children = {name: m.child for name, m in self.managed.items() if m.pid is not None}
        self.state.remembered.running = {n: [c.pid, c.start_time] for n, c in children.items() if c is not None}
        with contextlib.suppress(RempartError):  # a full disk is told by the processes that need it
            self.state.save()

    async def tell(self, kind: EventType, reason: str, severity: Severity, details: dict[str, object]) -> None:
        """Record an event of the system; without a journal the system must still run and be repaired."""
        if self._journal is None:
            return
        success = kind is not EventType.PROCESS_CRASHED
        event = Event(type=kind, at=time.time(), success=success, severity=severity, reason=reason, details=details)
        with contextlib.suppress(RempartError):
            await self._journal.record(event)

    # Who is who

    def who(self, pid: int) -> dict[str, Any]:
        """What `pid` is: a supervised process or one that descends from it, or an adopted client."""
        known = {m.pid: m for m in self.managed.values() if m.pid is not None}
        started = start_time(pid)
        current: int | None = pid
        for _ in range(64):
            if started is None or current is None or current <= 1 or current == os.getpid():
                break
            process = known[current].process if current in known else None
            if process is None and current in self.adopted and same_process(current, self.adopted[current][0]):
                process = self.adopted[current][1]
            if process is not None:
                return {
                    "name": process.subject,
                    "kind": process.attested_kind,
                    "spiffe_id": process.spiffe_id,
                    "start_time": started,
                }
            current = parent_of(current)
        return {"name": None}

    async def sign(self, kind: str, csr: str) -> str:
        """An issuing CA's certificate; of the request only `kind` and `csr` are used."""
        self._need_authority()
        signer = await self.roots.signer(kind)
        return await self.jobs.sign(kind, csr, signer, ttl=ISSUING_TTL[kind], names=self.plan.web_names)

    def _launch_signer(self) -> Launch:
        return self.provisions.launch(self.plan.process("root-signer"), None)[0]

    def _need_authority(self) -> None:
        if not self.plan.authority:
            raise BadInput("no_authority", "the authority is on another host", "ask there")

    # What the operator asks

    async def _op_status(self, peer: Peer, question: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield self.status()

    async def _op_down(self, peer: Peer, question: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self.stopping.set()
        while (name := await self.stopped.get()) != "":
            yield {"stopped": name}
        yield {"done": True}

    async def _op_adopt(self, peer: Peer, question: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        name = question.get("name")
        process = next((p for p in self.plan.processes if p.name == name and p.kind is Kind.CLIENT), None)
        if process is None:
            clients = [p.name for p in self.plan.processes if p.kind is Kind.CLIENT]
            raise NotFound("no_client", f"there is no client {name!r}", f"declared are: {', '.join(clients) or 'none'}")
        started = start_time(peer.pid)
        if started is None or self.stopping.is_set():
            raise Conflict("cannot_adopt", "the process is gone, or everything is being stopped")
        cwd = question.get("cwd")
        spec, _ = self.provisions.launch(process, None, Path(cwd) if isinstance(cwd, str) and cwd != "/" else None)
        self._adopt(peer.pid, started, process)
        await self.tell(
            EventType.PROCESS_STARTED,
            f"uid {peer.uid} runs a command as {process.name}",
            Severity.INFO,
            {"process": process.name, "pid": peer.pid, "operator": f"uid:{peer.uid}"},
        )
        yield {"adopted": process.name, "launch": asdict(spec)}

    async def _op_rotate_root(self, peer: Peer, question: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self._need_authority()
        kind, overlap = question.get("authority"), question.get("overlap", OVERLAP)
        if not isinstance(kind, str) or not isinstance(overlap, int | float):
            raise BadInput("bad_question", "name the authority (spiffe or web), and an overlap in seconds")
        operator = f"uid:{peer.uid}"
        if question.get("compromised") is not True:
            yield await self.roots.rotate(kind, overlap=float(overlap), operator=operator)
            return
        grace = float(question.get("overlap", GRACE))
        async for phase in self.roots.replace_compromised(kind, grace=grace, operator=operator):
            yield phase

    def _adopt(self, pid: int, started: int, process: Process) -> None:
        pidfd = os.pidfd_open(pid)
        loop = asyncio.get_running_loop()
        self.adopted[pid] = (started, process)

        def ended() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            self.adopted.pop(pid, None)

        loop.add_reader(pidfd, ended)

    def status(self) -> dict[str, Any]:
        return status_document(self)

    # The end

    async def _stop_all(self) -> None:
        for pid, (started, _) in list(self.adopted.items()):
            with contextlib.suppress(ProcessLookupError):
                if same_process(pid, started):
                    os.kill(pid, signal.SIGTERM)
        waiting = dict(self.managed)
        for stage in (*_STOP_ORDER, None):
            chosen = [m for m in waiting.values() if stage is None or m.name in stage or m.process.kind.value in stage]
            await asyncio.gather(*(managed.stop() for managed in chosen))
            for managed in chosen:
                del waiting[managed.name]
                self.stopped.put_nowait(managed.name)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._kill_orphans()
        self.stopped.put_nowait("")
        await asyncio.sleep(0.05)  # lets the last line reach who asked for the stop

    def _reap_orphans(self) -> None:
        """What our children left behind came to us (PR_SET_CHILD_SUBREAPER): bury it when it ends."""
        known = {m.child.pid for m in self.managed.values() if m.child is not None} | self.jobs.running
        for pid in set(children_of(os.getpid())) - known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def _kill_orphans(self) -> None:
        for _ in range(100):
            orphans = set(children_of(os.getpid())) - self.jobs.running
            if not orphans:
                return
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)

    async def _stop_without_state(self) -> None:
        """A state directory that was deleted can't be reached by `rempart down`, nor keep what happens."""
        control = self.plan.state / "run" / "control.sock"
        while control.exists():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(2)
        self._gone = True
        self.stopping.set()

    async def _rotate_logs(self) -> None:
        """Children append to files they hold open: a file that is full is copied and emptied."""
        while True:
            await asyncio.sleep(10)
            for managed in self.managed.values():
                with contextlib.suppress(OSError):
                    if managed.log.stat().st_size > LOG_BYTES:
                        managed.log.with_suffix(".log.1").write_bytes(managed.log.read_bytes())
                        os.truncate(managed.log, 0)


def _start_failed(managed: Managed) -> Unavailable:
    words = managed.error or (f"it ended with {managed.last_exit}" if managed.last_exit is not None else "not ready")
    lines = managed.last_lines()
    return Unavailable(
        "start_failed",
        f"{managed.name} did not start: {words}"
        + (f"\n--- last lines of {managed.log}\n{lines}\n---" if lines else ""),
        "correct that and start again",
    )
