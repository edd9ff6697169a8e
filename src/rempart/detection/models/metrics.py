"""What Prometheus reads of the models. No label holds anything from outside."""

from __future__ import annotations

from collections.abc import Mapping

from rempart.telemetry.exposition import Exposition

from .watch import Watch


def page(watch: Watch) -> str:
    """Prometheus's text format 0.0.4."""
    stream, counts, to = watch.stream, watch.stream.counts, Exposition()

    def by_subject(values: Mapping[str, float]) -> list[tuple[dict[str, str], float]]:
        return [({"subject": subject}, value) for subject, value in values.items()]

    subjects = list(watch.standing)
    to.single("rempart_models_events_total", "counter", "Events taken", counts.events)
    to.single("rempart_models_behind_events", "gauge", "Events in the log not yet taken", watch.size - watch.cursor)
    to.family("rempart_models_rows_total", "counter", "Rows of features made", by_subject(dict(counts.rows)))
    to.family(
        "rempart_models_rated_total",
        "counter",
        "Rows rated",
        [({"subject": subject, "level": level}, count) for (subject, level), count in counts.rated.items()],
    )
    to.family(
        "rempart_models_samples",
        "gauge",
        "Rows kept to learn from",
        by_subject({one.value: len(stream.samples[one]) for one in subjects}),
    )
    to.family(
        "rempart_models_in_force",
        "gauge",
        "1 while there is a model",
        by_subject({one.value: one in stream.models for one in subjects}),
    )
    to.family(
        "rempart_models_refused",
        "gauge",
        "1 while the newest model file is refused",
        by_subject({one.value: one in watch.files.refused for one in subjects}),
    )
    to.family(
        "rempart_models_trained_timestamp_seconds",
        "gauge",
        "When the model in force was trained",
        by_subject({one.value: model.body.trained_at for one, model in stream.models.items()}),
    )
    to.family(
        "rempart_models_drifted",
        "gauge",
        "Features that differ from the training data",
        by_subject({one.value: len(standing.drifted) for one, standing in watch.standing.items()}),
    )
    to.single("rempart_models_risks", "gauge", "Principals whose risk is raised", len(watch.risks.active()))
    to.single("rempart_models_risks_total", "counter", "Risks raised", watch.raised)
    to.single("rempart_models_suppressed_total", "counter", "Risks beyond what is told in an hour", watch.suppressed)
    return to.text()
