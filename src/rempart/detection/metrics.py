"""What Prometheus reads of the detector. No label holds anything from outside: rules are named by their files."""

from __future__ import annotations

from .following import Follower


def page(follower: Follower) -> bytes:
    """Prometheus's text format 0.0.4."""
    engine = follower.engine
    counts, correlators = engine.counts, engine.correlators
    lines: list[str] = []

    def metric(name: str, kind: str, about: str, *samples: tuple[str, float]) -> None:
        lines.append(f"# HELP {name} {about}")
        lines.append(f"# TYPE {name} {kind}")
        lines.extend(f"{name}{labels} {value:.10g}" for labels, value in samples)

    metric(
        "rempart_detections_total",
        "counter",
        "Alerts and signals by rule",
        *(
            (f'{{rule="{rule.name}",severity="{rule.severity}"}}', counts.alerts[rule.name])
            for rule in engine.rules
            if engine.speaks(rule.name)
        ),
    )
    metric("rempart_detector_alerts_total", "counter", "Alerts recorded", ("", follower.raised))
    metric("rempart_detector_events_total", "counter", "Events taken", ("", counts.events))
    metric("rempart_detector_repeated_total", "counter", "Events that came again", ("", counts.repeated))
    metric(
        "rempart_detector_unreadable_total", "counter", "Entries of the log that are no events", ("", counts.unreadable)
    )
    metric(
        "rempart_detector_suppressed_total",
        "counter",
        "Alerts beyond what a rule says in an hour",
        ("", counts.suppressed),
    )
    metric("rempart_detector_implausible_total", "counter", "Times not believed", ("", engine.clock.implausible))
    metric(
        "rempart_detector_behind_events",
        "gauge",
        "Events in the log not yet taken",
        ("", follower.size - follower.cursor),
    )
    metric(
        "rempart_detector_groups",
        "gauge",
        "Groups that a correlation keeps",
        *((f'{{rule="{name}"}}', len(one.groups)) for name, one in correlators.items()),
    )
    metric(
        "rempart_detector_evicted_total",
        "counter",
        "Groups forgotten for others before their time",
        *((f'{{rule="{name}"}}', one.evicted) for name, one in correlators.items()),
    )
    metric(
        "rempart_detector_late_total",
        "counter",
        "Events too late for a correlation",
        *((f'{{rule="{name}"}}', one.late) for name, one in correlators.items()),
    )
    return "".join(line + "\n" for line in lines).encode()
