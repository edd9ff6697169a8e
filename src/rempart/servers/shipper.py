"""The shipper process: events to other systems. It reads the record on a socket of its own and holds nothing but the
credentials of its sinks and how far each got.

Sockets: `admin` (`GET /sinks`), `metrics`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from rempart.audit.journal import Journal
from rempart.audit.ports import Sink
from rempart.audit.references import references
from rempart.audit.shipping import Shipment
from rempart.audit.shipping_report import page, report
from rempart.backends.http_feed import HttpFeed
from rempart.backends.sink_jsonl import JsonlSink
from rempart.backends.sink_tls import Trust
from rempart.kernel.clock import Clock, SystemClock
from rempart.kernel.errors import BadInput, NotFound
from rempart.kernel.event import Event, EventType, Severity
from rempart.protocols.http_answers import json_response, served
from rempart.telemetry.exposition import CONTENT_TYPE
from rempart.wiring.audit_sinks import SinkSettings
from rempart.wiring.process_outlets import ShipperSettings

from .boot import Boot
from .serving import serve

SHOWN: Mapping[str, Callable[[bytes], bytes]] = {"clear": bytes, "references": references}
"""What a sink is given of an event, by its setting `personal`."""


def make_sink(settings: SinkSettings, data_dir: Path, host_name: str, clock: Clock) -> Sink:
    """The one place where types of sinks are named."""
    trust = Trust(settings.ca, settings.certificate, settings.key)
    if settings.type == "elasticsearch":
        from rempart.backends.sink_elasticsearch import ElasticsearchSink

        credentials = (settings.username, settings.password or settings.api_key)
        return ElasticsearchSink(settings.url, settings.index, trust, credentials if credentials[1] else None)
    if settings.type == "syslog":
        from rempart.backends.sink_syslog import SyslogSink

        return SyslogSink(settings.host, settings.port, trust, host_name, strict=settings.strict)
    if settings.type == "webhook":
        from rempart.backends.sink_webhook import WebhookSink
        from rempart.crypto.webhooks import WebhookSigner

        return WebhookSink(settings.url, WebhookSigner(settings.secret), trust, clock)
    if settings.type == "jsonl":
        return JsonlSink(data_dir / settings.path)  # an absolute path stays what it is
    raise BadInput("bad_settings", f"there is no type of sink {settings.type!r}", "see docs/siem.md")


def face(shipments: list[Shipment], started: float) -> ASGIApp:
    """GET `/sinks`, `/metrics`, `/healthz`."""

    async def answer(request: Request) -> Response:
        match request.scope["path"]:
            case "/metrics":
                return Response(page(shipments), media_type=CONTENT_TYPE)
            case "/sinks":
                return json_response({"sinks": [report(shipment) for shipment in shipments]})
            case "/healthz":
                return json_response({"ready": True, "since": started})
        raise NotFound("no_such_resource", "nothing is at this path", "ask for /sinks")

    return served(answer)


async def run(boot: Boot, settings: ShipperSettings) -> None:
    """Serve until SIGTERM. What is on its way then is sent again after the next start."""
    boot.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    clock = SystemClock()
    journal = Journal(boot.journal_dir, boot.name)
    feed = HttpFeed(settings.feed_socket)

    async def tell(kind: EventType, reason: str, severity: Severity, details: Mapping[str, Any]) -> None:
        success = kind is EventType.SINK_RECOVERED
        await journal.record(
            Event(type=kind, at=clock.now(), success=success, severity=severity, reason=reason, details=details)
        )

    shipments = [
        Shipment(
            one.name,
            make_sink(one, boot.data_dir, settings.host_name, clock),
            feed,
            boot.data_dir,
            clock,
            tell,
            SHOWN[one.personal],
        )
        for one in settings.sinks
    ]
    app = face(shipments, time.time())
    try:
        await serve(boot, {"admin": app, "metrics": app}, *(shipment.run() for shipment in shipments))
    finally:
        await feed.close()
        journal.close()


def main() -> None:
    import uvloop

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    boot = Boot.from_environment()
    settings = boot.read_settings(ShipperSettings)
    uvloop.run(run(boot, settings))


if __name__ == "__main__":
    main()
