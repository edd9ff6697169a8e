"""The life of a process: serve, work, and on SIGTERM or SIGINT stop both."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from .asgi import asgi_server, metrics_alone
from .boot import Boot


async def serve(
    boot: Boot,
    apps: Mapping[str, ASGIApp],
    *work: Coroutine[Any, Any, None],
    stopping: asyncio.Event | None = None,
) -> None:
    """`apps` by the name of their socket; the operator is named to `admin`, and at `metrics` are only metrics. Each of
    `work` runs until it is cancelled, or where `stopping` is given until it ends after that is set; should one end by
    an error, all do, and the error is raised."""
    cancelled, stopping = stopping is None, stopping or asyncio.Event()
    servers = {
        name: asgi_server(metrics_alone(app) if name == "metrics" else app, name_operator=name == "admin")
        for name, app in apps.items()
    }
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with asyncio.TaskGroup() as group:
        working = [group.create_task(one) for one in work]
        for name, server in servers.items():
            group.create_task(server.serve(sockets=[boot.sockets[name]]))
        while not all(server.started for server in servers.values()):  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        boot.ready()
        await stopping.wait()
        for task in working if cancelled else ():
            task.cancel()
        for server in servers.values():
            server.should_exit = True


async def until_stopped(
    stop: asyncio.Event,
    pages: Iterable[uvicorn.Server],
    serving: list[asyncio.Task[Any]],
    working: list[asyncio.Task[Any]],
    close: Callable[[], None],
) -> None:
    """Until `stop`, or one of the tasks ends; then `close`, and end all others within 2 s. `serving` are the tasks of
    `pages`, which end by themselves. Raises what a task failed with: the supervisor starts the process anew."""
    tasks = [*serving, *working]
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
    close()
    for page in pages:
        page.should_exit = True
    for task in working:
        task.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2.0):
            await asyncio.gather(*tasks, return_exceptions=True)
    for task in done - {stopping}:
        task.result()
