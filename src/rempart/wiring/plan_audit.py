"""What rempart.toml says of the record, as the processes are told it that keep it, send it on and tell of
alerts."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .catalog import RISKS
from .plan_model import Socket, View
from .process_outlets import NotifierSettings, ShipperSettings
from .process_settings import ModelsSettings, SequencerSettings
from .settings import AppSettings


def audit_settings(app: AppSettings, state: Path) -> dict[str, msgspec.Struct]:
    """Of each process that there is."""
    sequencer = SequencerSettings(
        origin=f"{app.trust_domain}/rempart",
        journals_dir=str(state / "journals"),
        event_sources=[service.name for service in app.services] + [client.name for client in app.clients],
        records=dict(app.audit.records),
        witnesses={witness.url: witness.key for witness in app.audit.witnesses},
        witness_quorum=app.audit.quorum,
        store=app.audit.store,
        retention=dict(app.audit.retention),
    )
    feeds = state / "run" / "feed"
    found: dict[str, msgspec.Struct] = {
        "sequencer": sequencer,
        "shipper": ShipperSettings(
            sinks=list(app.audit.sinks), feed_socket=str(feeds / "shipper.sock"), host_name=app.trust_domain
        ),
        "models": ModelsSettings(
            trust_domain=app.trust_domain,
            feed_socket=str(feeds / "models.sock"),
            geo_file=str(app.detection.geo_file or ""),
            least=app.detection.least_rows,
        ),
        "notifier": NotifierSettings(
            channels=list(app.alerting.channels), pace=app.alerting.pace, feed_socket=str(feeds / "notifier.sock")
        ),
    }
    return {name: settings for name, settings in found.items() if name not in unused(app)}


def feeds(app: AppSettings) -> list[Socket]:
    """The record in order, a socket for each process that follows it."""
    followers = ("detector", *(name for name in ("models", "shipper", "notifier") if name not in unused(app)))
    return [Socket(f"feed:{name}", f"run/feed/{name}.sock", owner=name) for name in followers]


def risk_views(app: AppSettings) -> list[View]:
    """What the PDP sees of the models."""
    return [View(RISKS)] if app.detection.models else []


def unused(app: AppSettings) -> frozenset[str]:
    """Processes that have nothing to do."""
    wanted = {
        "shipper": bool(app.audit.sinks),
        "notifier": bool(app.alerting.channels),
        "models": app.detection.models,
    }
    return frozenset(name for name, used in wanted.items() if not used)
