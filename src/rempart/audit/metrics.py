"""What Prometheus reads of the sequencer."""

from __future__ import annotations

import time

from rempart.kernel.event import EventType
from rempart.telemetry.exposition import Exposition

from .sequencer import Sequencer


def page(sequencer: Sequencer) -> str:
    """Prometheus's text format 0.0.4."""
    log, counts, to = sequencer.log, sequencer.counts, Exposition()
    lag = sequencer.lag_seconds
    to.single("rempart_audit_log_size", "gauge", "Events in the Merkle log", log.size)
    to.single("rempart_audit_lag_seconds", "gauge", "Since all journals were last read to the end", lag)
    to.single(
        "rempart_audit_checkpoint_age_seconds",
        "gauge",
        "Since a signed checkpoint was last known to cover every event",
        min(time.monotonic() - log.signed_at, lag),
    )
    to.family(
        "rempart_audit_journal_backlog_bytes",
        "gauge",
        "Segments of each journal that are not wholly integrated",
        [({"journal": name}, size) for name, size in sorted(sequencer.backlog().items())],
    )
    to.single("rempart_audit_integrated_total", "counter", "Events integrated since the start", counts.integrated)
    to.single(
        "rempart_audit_refused_records_total",
        "counter",
        "Journal records that are no event of that journal",
        counts.refused,
    )
    to.single("rempart_audit_repeated_total", "counter", "Events that were told again", counts.repeated)
    to.single("rempart_audit_alarms_total", "counter", "Alarms about journals", counts.alarms)
    to.single("rempart_audit_index_failures_total", "counter", "Failures of the search index", counts.index_failures)
    if (behind := sequencer.index_lag) is not None:  # nothing while the index is down
        to.single("rempart_audit_unindexed_events", "gauge", "In the log and not yet found by searches", behind)
    by_type = dict(sequencer.events_by_type())
    if by_type:  # types that never happened are 0, so that the first is an increase; nothing while the index is down
        by_type = {str(kind): 0 for kind in EventType} | by_type
    to.family(
        "rempart_audit_events_total",
        "counter",
        "Events in the log by type",
        [({"type": kind}, count) for kind, count in sorted(by_type.items())],
    )
    return to.text()
