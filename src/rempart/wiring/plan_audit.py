"""What rempart.toml says of the record, as the processes are told it that keep it, send it on and tell of
alerts."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .process_settings import NotifierSettings, SequencerSettings, ShipperSettings
from .settings import AppSettings


def audit_settings(app: AppSettings, state: Path) -> dict[str, msgspec.Struct]:
    """Of each process that there is."""
    sequencer = SequencerSettings(
        origin=f"{app.trust_domain}/rempart",
        journals_dir=str(state / "journals"),
        event_sources=[service.name for service in app.services] + [client.name for client in app.clients],
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
        "notifier": NotifierSettings(
            channels=list(app.alerting.channels), pace=app.alerting.pace, feed_socket=str(feeds / "notifier.sock")
        ),
    }
    return {name: settings for name, settings in found.items() if name not in unused(app)}


def unused(app: AppSettings) -> frozenset[str]:
    """Processes that have nothing to do."""
    wanted = {"shipper": bool(app.audit.sinks), "notifier": bool(app.alerting.channels)}
    return frozenset(name for name, used in wanted.items() if not used)
