"""The policy decision point: answers every enforcement point's questions, each answer on disk before it is given.

Sockets: `pep:NAME` for each enforcement point, `admin`, `policies` (for the observer), `metrics`.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvloop

from rempart.audit.journal import Journal
from rempart.backends.regorus_engine import RegorusEngine
from rempart.backends.regorus_trial import RegorusTrial
from rempart.kernel.clock import SystemClock
from rempart.kernel.errors import BadInput, RempartError
from rempart.kernel.event import Event, EventType, Severity
from rempart.policy.admin import Pages
from rempart.policy.api import PepConnection
from rempart.policy.claims import why_refused
from rempart.policy.decide import Decider, Deciding, Point, Rules
from rempart.policy.epochs import Epochs, Follower
from rempart.policy.given import given_data
from rempart.policy.keeper import Keeper, Source
from rempart.policy.outbox import Outbox
from rempart.policy.risks import RiskFollower
from rempart.policy.traces import DecisionTraces
from rempart.protocols.asgi_server import AsgiServer
from rempart.protocols.http_pages import Handler, serve_pages
from rempart.wiring.process_settings import PdpSettings

from .boot import Boot
from .tracing import exporter

BACKLOG = 1024
CATCH_UP = 2.0  # seconds to wait for people when starting; it may start at the same moment

# What deploy/prometheus/rules watch.
WATCHED_CODES = (
    "invalid_token",
    "token_superseded",
    "session_ended",
    "insufficient_user_authentication",
    "multiple_uri_sans",
    "bad_spiffe_id",
    "peer_not_allowed",
    "no_peer",
    "workload_not_allowed",
    "no_policy",
    "unauthenticated",
    "role_not_allowed",
    "forbidden",
    "epochs_stale",
)


async def serve(boot: Boot) -> None:
    """Until SIGTERM or SIGINT: then what was asked is still answered, and the journal closed."""
    loop = asyncio.get_running_loop()
    settings = boot.read_settings(PdpSettings)
    clock = SystemClock()
    given = given_data(settings.data, settings.unsafe_disabled)
    journal = Journal(boot.journal_dir, boot.name)
    spans = exporter(boot)
    try:
        rules = Rules(
            trust_domain=settings.trust_domain,
            issuer=settings.issuer,
            audience=settings.audience,
            routes=settings.routes,
            gateway=str(given["gateway"]),
            requests_per_minute=settings.requests_per_minute,
            managing=[name for name, role in given["roles"].items() if role["manages"]],
            other_origins=settings.other_origins,
            disabled=settings.unsafe_disabled,
        )
        explain = functools.partial(why_refused, issuer=settings.issuer, audience=settings.audience)
        epochs = Epochs(boot.data_dir / "epochs.json")
        epochs.load(clock.now())
        decider = Decider(rules, None, clock, boot.name, explain, epochs)
        follower = Follower(epochs, settings.epochs_sockets, clock) if settings.epochs_sockets else None
        source = Source(
            Path(settings.policy_dir) if settings.policy_dir else None, settings.entrypoint, given, boot.data_dir
        )

        def swap(deciding: Deciding) -> None:
            decider.deciding = deciding

        keeper = Keeper(source, RegorusEngine(), RegorusTrial(), journal, clock, swap)
        if journal.damage:
            await journal.record(
                Event(
                    type=EventType.ALARM,
                    at=clock.now(),
                    success=False,
                    severity=Severity.HIGH,
                    reason=f"the PDP's journal was found damaged: {journal.damage}",
                )
            )
        await keeper.start()
        tasks = [loop.create_task(keeper.watch())]
        if settings.risk_socket:
            decider.risks.step_up = settings.step_up
            tasks.append(loop.create_task(RiskFollower(decider.risks, settings.risk_socket, clock).run()))
        if follower is not None:  # before the first question: what changed meanwhile holds from the first answer on
            tasks.append(loop.create_task(follower.run()))
            await follower.caught_up(CATCH_UP)
        outbox = Outbox(journal, decider.counters, loop)
        if spans is not None:
            outbox.traces = decider.traces = DecisionTraces(spans, decider.counters)
        pages = Pages(keeper, decider, outbox, given, follower, spans.metrics if spans else str)
        points = await _listen(boot, settings, decider, outbox)
        paged = await _show(boot, pages)
        gc.collect()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        boot.ready()
        try:
            await until_stopped(stop, tasks)
        finally:
            for point in points:
                point.close()
            await asyncio.gather(*(page.stop(1.0) for page in paged))
            await asyncio.sleep(0)  # questions that were read already get their turn
            outbox.flush()
    finally:
        journal.close()


async def until_stopped(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Until `stop`; then `tasks` are cancelled. They run for ever: should one end, it raises why. A PDP that doesn't
    hear any more whose tokens are over must not go on, and the supervisor starts it anew."""
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    for task in (stopping, *tasks):
        task.cancel()
    for ended in done - {stopping}:
        ended.result()
        raise RuntimeError(f"{ended.get_coro()} ended by itself")


async def _listen(boot: Boot, settings: PdpSettings, decider: Decider, outbox: Outbox) -> list[asyncio.Server]:
    loop = asyncio.get_running_loop()
    servers = []
    for configured in settings.points:
        listening = boot.sockets.get(f"pep:{configured.name}")
        if listening is None:
            raise BadInput("no_socket", f"there is no socket pep:{configured.name}", "start it by `rempart up`")
        point = Point(configured.name, configured.kind, configured.service)
        for code in WATCHED_CODES:  # an alert sees an increase from 0, not the birth of a series
            decider.counters.decisions.setdefault((configured.name, "deny", code), 0)
        factory = functools.partial(PepConnection, point, decider, outbox)
        servers.append(await loop.create_unix_server(factory, sock=listening, backlog=BACKLOG))
    return servers


async def _show(boot: Boot, pages: Pages) -> list[AsgiServer]:
    handlers: Mapping[str, Handler] = {"admin": pages.admin, "policies": pages.policies, "metrics": pages.metrics}
    return [
        await serve_pages(boot.sockets[name], handler) for name, handler in handlers.items() if name in boot.sockets
    ]


def main() -> None:
    try:
        uvloop.run(serve(Boot.from_environment()))
    except RempartError as error:
        print(f"pdp: {error}", file=sys.stderr, flush=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
