"""How far each sink got, for people and for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rempart.kernel.clock import rfc3339
from rempart.telemetry.exposition import Exposition, Kind

from .shipping import Shipment


def report(shipment: Shipment) -> dict[str, Any]:
    progress = shipment.progress
    return {
        "name": shipment.name,
        "state": "failing" if progress.failing else "sending" if progress.behind_since is not None else "up to date",
        "next": progress.next,
        "waiting": max(0, progress.size - progress.next),
        "lag_seconds": round(shipment.lag_seconds, 3),
        "sent": progress.sent,
        "rejected": progress.rejected,
        "failures": progress.failures,
        "failing": progress.failing,
        "sent_at": None if progress.sent_at is None else rfc3339(progress.sent_at),
    }


def page(shipments: Sequence[Shipment]) -> str:
    """Prometheus's text format 0.0.4."""
    to = Exposition()

    def metric(name: str, kind: Kind, about: str, values: Sequence[float]) -> None:
        samples = [({"sink": one.name}, value) for one, value in zip(shipments, values, strict=True)]
        to.family(f"rempart_sink_{name}", kind, about, samples)

    all_progress = [shipment.progress for shipment in shipments]
    metric("up", "gauge", "1 unless the last attempt failed", [not p.failing for p in all_progress])
    metric("lag_seconds", "gauge", "Since when events have been waiting", [s.lag_seconds for s in shipments])
    metric("waiting_events", "gauge", "Events not yet confirmed", [max(0, p.size - p.next) for p in all_progress])
    metric("next_index", "gauge", "The first event not yet confirmed", [p.next for p in all_progress])
    metric("batch_events", "gauge", "Events sent at once, less when the sink asks so", [p.batch for p in all_progress])
    metric("sent_total", "counter", "Events confirmed since the start", [p.sent for p in all_progress])
    metric("sent_bytes_total", "counter", "Bytes of events confirmed", [p.bytes for p in all_progress])
    metric("rejected_total", "counter", "Events refused for good", [p.rejected for p in all_progress])
    metric("failures_total", "counter", "Attempts that failed", [p.failures for p in all_progress])
    return to.text()
