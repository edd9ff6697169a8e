"""`--follow` of `rempart svid`: write, tell who reads, and again at each renewal, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rempart.kernel.errors import BadInput, RempartError

from .output import say

T = TypeVar("T")
COMMAND_TIMEOUT = 60.0
_SIGNALS = ("HUP", "USR1", "USR2", "INT", "TERM")


@dataclass(frozen=True, slots=True)
class Notice:
    """Who is told of a renewal: a command (no shell), a signal to the process whose pid is in a file, or both."""

    command: tuple[str, ...] = ()
    signal: int = 0
    pid_file: Path | None = None

    @staticmethod
    def parse(command: str, signal_name: str, pid_file: Path | None) -> Notice:
        """Raises BadInput `bad_usage`."""
        name = signal_name.upper().removeprefix("SIG")
        if bool(name) != (pid_file is not None):
            raise BadInput("bad_usage", "--signal and --pid-file go together", "give both or none")
        if name and name not in _SIGNALS:
            raise BadInput("bad_usage", f"{signal_name[:40]!r} is not a signal for this", "use " + ", ".join(_SIGNALS))
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise BadInput("bad_usage", f"--exec can't be read: {error}", "quote it as a shell wants it") from None
        return Notice(words, signal.Signals[f"SIG{name}"] if name else 0, pid_file)

    async def tell(self) -> None:
        """What fails is said and ends nothing: the files are in place, and the next renewal comes."""
        if self.pid_file is not None:
            try:
                os.kill(_pid_in(self.pid_file), self.signal)
            except (OSError, ValueError) as error:
                say(f"rempart: the process of {self.pid_file} can't be told: {error}")
        if self.command:
            await self._run()

    async def _run(self) -> None:
        try:
            process = await asyncio.create_subprocess_exec(*self.command, stdin=asyncio.subprocess.DEVNULL)
        except OSError as error:
            say(f"rempart: {self.command[0]} can't be started: {error.strerror}")
            return
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                code = await process.wait()
        except TimeoutError:
            say(f"rempart: {self.command[0]} ran for {COMMAND_TIMEOUT:.0f} s and was ended")
            code = 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code:
            say(f"rempart: {self.command[0]} ended with {code}")


def _pid_in(file: Path) -> int:
    with file.open("rb") as opened:
        pid = int(opened.read(32))
    if pid <= 1:  # 0 and below are groups, 1 is init: no pid file of a daemon holds those
        raise ValueError(f"{pid} is no process to be told")
    return pid


def follow(source: AsyncIterator[T | RempartError], write: Callable[[T], str], notice: Notice) -> None:
    """`write` returns what to say of it. The first failure before anything was written is raised; later ones are said
    once, and the files that are there stay until they are renewed."""

    async def main() -> None:
        written = False
        said = ""
        async for item in source:
            if isinstance(item, RempartError):
                if not written:
                    raise item
                if item.reason != said:
                    said = item.reason
                    say(f"rempart: {item}")
                continue
            try:
                say(write(item))
            except RempartError as error:
                if not written:
                    raise
                say(f"rempart: {error}")  # the disk is full: the next renewal may find it otherwise
                continue
            written, said = True, ""
            await notice.tell()

    async def until_ended() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(main())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(until_ended())
