"""A TCP relay that is slow and loses connections: what a bad link does, without the kernel's help."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class RoughRelay:
    """`delay_s` before each piece goes on; `loss`: the chance that a piece ends the connection instead."""

    target: tuple[str, int]
    delay_s: float
    loss: float
    passed: int = 0
    broken: int = 0
    port: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            on_reader, on_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.close()
            return
        ends = [asyncio.create_task(self._pass(reader, on_writer)), asyncio.create_task(self._pass(on_reader, writer))]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            for one in (writer, on_writer):
                one.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await asyncio.sleep(self.delay_s * random.uniform(0.5, 1.5))
                if random.random() < self.loss:
                    self.broken += 1
                    return
                self.passed += 1
                writer.write(data)


@contextlib.contextmanager
def rough_relay(host: str, target: tuple[str, int], *, delay_s: float, loss: float) -> Iterator[RoughRelay]:
    relay = RoughRelay(target, delay_s, loss)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(relay._serve, host, 0))
    relay.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield relay
    finally:

        async def end() -> None:
            server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # transports that were aborted close their sockets in the loop's next turn

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
