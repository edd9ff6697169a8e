"""The life of a process: serve, work, and on SIGTERM or SIGINT stop both."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from rempart.kernel.errors import NotFound
from rempart.protocols.asgi_exchange import App, Message, Receive, Send
from rempart.protocols.asgi_server import AsgiServer
from rempart.protocols.http_pages import Ask, Page, paged

from .boot import Boot

_SHOWN = frozenset((("GET", "/metrics"), ("GET", "/healthz")))


async def serve(
    boot: Boot,
    apps: Mapping[str, App],
    *work: Coroutine[Any, Any, None],
    stopping: asyncio.Event | None = None,
) -> None:
    """`apps` by the name of their socket; the operator is named to `admin`, and at `metrics` are only metrics. Each of
    `work` runs until it is cancelled, or where `stopping` is given until it ends after that is set; should one end by
    an error, all do, and the error is raised."""
    cancelled, stopping = stopping is None, stopping or asyncio.Event()
    servers = {
        name: AsgiServer(metrics_alone(app) if name == "metrics" else app, name_operator=name == "admin")
        for name, app in apps.items()
    }
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with asyncio.TaskGroup() as group:
        working = [group.create_task(one) for one in work]
        for name, server in servers.items():
            await server.listen(boot.sockets[name])
        boot.ready()
        await stopping.wait()
        for task in working if cancelled else ():
            task.cancel()
        await asyncio.gather(*(server.stop() for server in servers.values()))


async def until_stopped(
    stop: asyncio.Event, pages: Iterable[AsgiServer], tasks: list[asyncio.Task[Any]], close: Callable[[], None]
) -> None:
    """Until `stop`, or one of the tasks ends; then `close`, and end pages and tasks within 2 s. Raises what a task
    failed with: the supervisor starts the process anew."""
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
    close()
    for task in tasks:
        task.cancel()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2.0):
            await asyncio.gather(*(page.stop() for page in pages), *tasks, return_exceptions=True)
    for task in done - {stopping}:
        task.result()


def metrics_alone(app: App) -> App:
    """GET `/metrics` and `/healthz` of `app`. The observer, which strangers can reach, reads these: who takes it over
    must not find there what only the operator may do."""

    async def nothing(ask: Ask) -> Page:
        raise NotFound("no_such_resource", "only GET /metrics is here")

    elsewhere = paged(nothing)

    async def shown(scope: Message, receive: Receive, send: Send) -> None:
        known = (scope["method"], scope["path"]) in _SHOWN
        await (app if known else elsewhere)(scope, receive, send)

    return shown
