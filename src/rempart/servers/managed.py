"""The life of one supervised process: start, become ready, be watched, end, start again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess  # nosec B404 - only its constants are used
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

from rempart.kernel.errors import RempartError
from rempart.kernel.event import EventType, Severity
from rempart.wiring.plan_model import Probe, Process

from .probes import is_alive, is_ready
from .provision import Provisions
from .spawn import Child, spawn

FIRST_DELAY, LONGEST_DELAY = 0.05, 5.0
CRASH_LOOP, CRASH_WINDOW = 5, 30.0
STEADY_AFTER = 3.0
READY_WITHIN = 30.0
WATCH_EVERY, WATCH_TIMEOUT, WATCH_MISSES = 2.0, 2.0, 3
STOP_WITHIN = 4.0
_POLL = 0.02

Tell = Callable[[EventType, str, Severity, dict[str, object]], Awaitable[None]]


def restart_delay(recent: int, jitter: Callable[[], float] = random.random) -> float:
    """Seconds to wait after the `recent`th end in a row: doubled each time, between half of it and all of it."""
    whole = min(FIRST_DELAY * 2.0 ** max(0, recent - 1), LONGEST_DELAY)
    return whole * (0.5 + 0.5 * jitter())


class Managed:
    """`state`: stopped → starting → ready → (ended → starting …); `crash-loop` when it ends again and again."""

    def __init__(self, process: Process, provisions: Provisions, log: Path, tell: Tell) -> None:
        self.process = process
        self.child: Child | None = None
        self.state = "stopped"
        self.restarts = 0
        self.last_exit: int | None = None
        self.error = ""
        self.became_ready = asyncio.Event()
        self.changed: Callable[[Managed], None] = lambda managed: None
        self.log = log
        self._provisions = provisions
        self._tell = tell
        self._stopping = False
        self._ready_since: float | None = None
        self._ends: deque[float] = deque(maxlen=CRASH_LOOP)

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def pid(self) -> int | None:
        return self.child.pid if self.child and not self.child.exited.done() else None

    @property
    def ready(self) -> bool:
        return self.state == "ready" and self.pid is not None

    def crash_looping(self) -> bool:
        return len(self._ends) == CRASH_LOOP and time.monotonic() - self._ends[0] < CRASH_WINDOW

    async def keep(self) -> None:
        """Run until `stop` was called; never raises for what the process does."""
        while not self._stopping:
            try:
                status = await self._once()
            except (RempartError, OSError) as error:  # it couldn't even be started: told in status, tried again
                self.error, status = str(error), 126
            if self._stopping:
                break
            self.last_exit = status
            if self._ready_since is not None and time.monotonic() - self._ready_since > STEADY_AFTER:
                self._ends.clear()  # it did its work for a while: this is an accident, not a loop
            self._ends.append(time.monotonic())
            looping = self.crash_looping()
            self._set("crash-loop" if looping else "starting")
            await self._tell(
                EventType.PROCESS_CRASHED,
                f"{self.name} ended with {_words(status)}",
                Severity.HIGH if looping else Severity.MEDIUM,
                {"process": self.name, "status": status, "restarts": self.restarts, "crash_loop": looping},
            )
            recent = sum(1 for at in self._ends if time.monotonic() - at < CRASH_WINDOW)
            await asyncio.sleep(LONGEST_DELAY if looping else restart_delay(recent))
            self.restarts += 1
        self._set("stopped")

    async def _once(self) -> int:
        self._ready_since = None
        self.child = child = self._start()
        self._set("starting")
        watching = asyncio.create_task(self._watch(child))
        try:
            status = await asyncio.shield(child.exited)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        self.became_ready.clear()
        return status

    def _start(self) -> Child:
        if self.process.probe is Probe.SERVICE and self.process.address.startswith("unix:"):
            Path(self.process.address[5:]).unlink(missing_ok=True)  # left by a killed one, and few programs replace it
        ready_read, ready_write = os.pipe() if self.process.probe is Probe.BOOT else (-1, -1)
        opened: list[int] = []
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            spec, opened = self._provisions.launch(self.process, ready_write if ready_write >= 0 else None)
            pipe = self._provisions.pipes.get(self.name)
            child = spawn(spec, stdout=pipe[1] if pipe else log, stderr=log, stdin=subprocess.DEVNULL)
        except BaseException:
            if ready_read >= 0:
                os.close(ready_read)
            raise
        finally:
            for fd in (log, ready_write, *opened):
                if fd >= 0:
                    os.close(fd)
        if ready_read >= 0:
            self._await_byte(ready_read, child)
        return child

    def _await_byte(self, fd: int, child: Child) -> None:
        loop = asyncio.get_running_loop()

        def readable() -> None:
            loop.remove_reader(fd)
            told = os.read(fd, 1)
            os.close(fd)
            if told and child is self.child:
                self._mark_ready()

        loop.add_reader(fd, readable)

    async def _watch(self, child: Child) -> None:
        """Until ready: look often. Afterwards: now and then, and kill what doesn't answer."""
        state = self._provisions.plan.state
        deadline = time.monotonic() + READY_WITHIN
        while not self.ready:
            if self.process.probe is not Probe.BOOT and await is_ready(self.process, state):
                self._mark_ready()
                break
            if time.monotonic() > deadline:
                self.error = f"not ready within {READY_WITHIN:.0f} s"
                child.kill()
                return
            await asyncio.sleep(_POLL)
        await self._tell(
            EventType.PROCESS_STARTED,
            f"{self.name} is ready",
            Severity.INFO,
            {"process": self.name, "pid": child.pid, "restarts": self.restarts},
        )
        misses = 0
        while True:
            await asyncio.sleep(WATCH_EVERY * random.uniform(0.8, 1.2))  # nosec B311 - spreads the probes, nothing more
            misses = 0 if await is_alive(self.process, state, WATCH_TIMEOUT) else misses + 1
            if misses >= WATCH_MISSES:
                self.error = "hung: it gave no sign of life"
                child.kill()
                return

    def _mark_ready(self) -> None:
        self.error = ""
        self._ready_since = time.monotonic()
        self._set("ready")
        self.became_ready.set()

    def _set(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.changed(self)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL to its group after STOP_WITHIN seconds. Returns when it is gone."""
        self._stopping = True
        child = self.child
        if child is None or child.exited.done():
            self._set("stopped")
            return
        child.kill(signal.SIGTERM)
        child.kill(signal.SIGCONT)
        try:
            async with asyncio.timeout(STOP_WITHIN):
                status = await asyncio.shield(child.exited)
        except TimeoutError:
            child.kill()
            status = await asyncio.shield(child.exited)
        await self._tell(
            EventType.PROCESS_STOPPED,
            f"{self.name} was stopped",
            Severity.INFO,
            {"process": self.name, "status": status},
        )

    def last_lines(self, count: int = 15) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 16384))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
        except OSError:
            return ""


def _words(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
