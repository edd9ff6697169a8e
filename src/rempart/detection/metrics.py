"""What Prometheus reads of the detector. No label holds anything from outside: rules are named by their files."""

from __future__ import annotations

from rempart.telemetry.exposition import Exposition

from .following import Follower


def page(follower: Follower) -> str:
    """Prometheus's text format 0.0.4."""
    engine, to = follower.engine, Exposition()
    counts, correlators = engine.counts, engine.correlators
    to.family(
        "rempart_detections_total",
        "counter",
        "Alerts and signals by rule",
        [
            ({"rule": rule.name, "severity": str(rule.severity)}, counts.alerts[rule.name])
            for rule in engine.rules
            if engine.speaks(rule.name)
        ],
    )
    to.single("rempart_detector_alerts_total", "counter", "Alerts recorded", follower.raised)
    to.single("rempart_detector_events_total", "counter", "Events taken", counts.events)
    to.single("rempart_detector_repeated_total", "counter", "Events that came again", counts.repeated)
    about = "Entries of the log that are no events"
    to.single("rempart_detector_unreadable_total", "counter", about, counts.unreadable)
    about = "Alerts beyond what a rule says in an hour"
    to.single("rempart_detector_suppressed_total", "counter", about, counts.suppressed)
    to.single("rempart_detector_implausible_total", "counter", "Times not believed", engine.clock.implausible)
    behind = follower.size - follower.cursor
    to.single("rempart_detector_behind_events", "gauge", "Events in the log not yet taken", behind)
    to.family(
        "rempart_detector_groups",
        "gauge",
        "Groups that a correlation keeps",
        [({"rule": name}, len(one.groups)) for name, one in correlators.items()],
    )
    to.family(
        "rempart_detector_evicted_total",
        "counter",
        "Groups forgotten for others before their time",
        [({"rule": name}, one.evicted) for name, one in correlators.items()],
    )
    to.family(
        "rempart_detector_late_total",
        "counter",
        "Events too late for a correlation",
        [({"rule": name}, one.late) for name, one in correlators.items()],
    )
    return to.text()
