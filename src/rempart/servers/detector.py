"""The detector process: follows the log with the rules and records what they find as `alert.raised`.

Sockets: `metrics`, `admin` (what it watches for, and how far it is). It reads the log from the sequencer's read-only
socket `run/feed/detector.sock`, writes its own journal and its own state, and reaches nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from rempart.audit.journal import Journal
from rempart.backends.geo_csv import GeoCsv
from rempart.backends.http_feed import HttpFeed
from rempart.detection.engine import Engine
from rempart.detection.following import Follower
from rempart.detection.metrics import page
from rempart.detection.ruleset import BUILT_IN, load
from rempart.kernel.errors import NotFound
from rempart.kernel.event import Event
from rempart.protocols.http_answers import json_response, served
from rempart.protocols.ocsf import encode
from rempart.telemetry.exposition import CONTENT_TYPE
from rempart.wiring.process_settings import DetectorSettings

from .boot import Boot
from .serving import serve


class JournaledAlerts:
    """Implements `detection.ports.AlertRecorder`: in the journal, marked so that the sequencer takes each id once."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def raise_alert(self, event: Event) -> None:
        await self._journal.record_bytes(encode(event, self._journal.source), repeat=True)


def detector_app(follower: Follower) -> ASGIApp:
    """GET `/rules`, `/metrics`, `/healthz`."""

    async def answer(request: Request) -> Response:
        match request.scope["path"]:
            case "/metrics":
                return Response(page(follower), media_type=CONTENT_TYPE)
            case "/healthz":
                return json_response({"ready": True})
            case "/rules":
                return json_response(_rules(follower))
        raise NotFound("no_such_resource", "nothing is at this path", "ask for /rules")

    return served(answer)


def _rules(follower: Follower) -> dict[str, object]:
    engine = follower.engine
    return {
        "taken": follower.cursor,
        "size": follower.size,
        "rules": [
            {
                "rule": rule.name,
                "severity": rule.severity,
                "attack": rule.attack,
                "alerts": engine.counts.alerts[rule.name],
            }
            for rule in engine.rules
            if engine.speaks(rule.name)
        ],
    }


async def run(boot: Boot) -> None:
    """Serve until SIGTERM; then save how far it is."""
    settings = boot.read_settings(DetectorSettings)
    boot.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    places = GeoCsv.read(Path(settings.geo_file)) if settings.geo_file else None
    own = [Path(settings.rules_dir)] if settings.rules_dir else []
    engine = Engine(load([BUILT_IN, *own], places))
    journal = Journal(boot.journal_dir, boot.name)
    feed = HttpFeed(settings.feed_socket)
    follower = Follower(engine, feed, JournaledAlerts(journal), boot.data_dir / "state")
    stopping = asyncio.Event()
    app = detector_app(follower)
    apps = {name: app for name in ("metrics", "admin") if name in boot.sockets}
    try:
        await serve(boot, apps, follower.follow(stopping), follower.watch_clock(stopping), stopping=stopping)
    finally:
        journal.close()
        await feed.close()


def main() -> None:
    import uvloop

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvloop.run(run(Boot.from_environment()))


if __name__ == "__main__":
    main()
