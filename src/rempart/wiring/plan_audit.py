"""What rempart.toml says of the record, as the processes `sequencer` and `shipper` are told it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .process_settings import SequencerSettings, ShipperSettings
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
    if not app.audit.sinks:
        return {"sequencer": sequencer}
    feed = str(state / "run" / "feed" / "shipper.sock")
    shipper = ShipperSettings(sinks=list(app.audit.sinks), feed_socket=feed, host_name=app.trust_domain)
    return {"sequencer": sequencer, "shipper": shipper}
