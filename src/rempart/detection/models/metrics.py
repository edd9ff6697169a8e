"""What Prometheus reads of the models. No label holds anything from outside."""

from __future__ import annotations

from .watch import Watch


def page(watch: Watch) -> bytes:
    """Prometheus's text format 0.0.4."""
    stream, counts = watch.stream, watch.stream.counts
    lines: list[str] = []

    def metric(name: str, kind: str, about: str, *samples: tuple[str, float]) -> None:
        lines.append(f"# HELP {name} {about}")
        lines.append(f"# TYPE {name} {kind}")
        lines.extend(f"{name}{labels} {value:.10g}" for labels, value in samples)

    def by_subject(values: dict[str, float]) -> list[tuple[str, float]]:
        return [(f'{{subject="{subject}"}}', value) for subject, value in values.items()]

    subjects = list(watch.standing)
    metric("rempart_models_events_total", "counter", "Events taken", ("", counts.events))
    metric("rempart_models_behind_events", "gauge", "Events in the log not yet taken", ("", watch.size - watch.cursor))
    metric("rempart_models_rows_total", "counter", "Rows of features made", *by_subject(dict(counts.rows)))
    metric(
        "rempart_models_rated_total",
        "counter",
        "Rows rated",
        *((f'{{subject="{subject}",level="{level}"}}', count) for (subject, level), count in counts.rated.items()),
    )
    metric(
        "rempart_models_samples",
        "gauge",
        "Rows kept to learn from",
        *by_subject({one.value: len(stream.samples[one]) for one in subjects}),
    )
    metric(
        "rempart_models_in_force",
        "gauge",
        "1 while there is a model",
        *by_subject({one.value: one in stream.models for one in subjects}),
    )
    metric(
        "rempart_models_refused",
        "gauge",
        "1 while the newest model file is refused",
        *by_subject({one.value: one in watch.files.refused for one in subjects}),
    )
    metric(
        "rempart_models_trained_timestamp_seconds",
        "gauge",
        "When the model in force was trained",
        *by_subject({one.value: model.body.trained_at for one, model in stream.models.items()}),
    )
    metric(
        "rempart_models_drifted",
        "gauge",
        "Features that differ from the training data",
        *by_subject({one.value: len(standing.drifted) for one, standing in watch.standing.items()}),
    )
    metric("rempart_models_risks", "gauge", "Principals whose risk is raised", ("", len(watch.risks.active())))
    metric("rempart_models_risks_total", "counter", "Risks raised", ("", watch.raised))
    metric("rempart_models_suppressed_total", "counter", "Risks beyond what is told in an hour", ("", watch.suppressed))
    return "".join(line + "\n" for line in lines).encode()
