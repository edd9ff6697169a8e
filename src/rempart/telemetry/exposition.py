"""A page for Prometheus, in its text format 0.0.4 (prometheus.io, "Exposition formats")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Kind = Literal["counter", "gauge"]


class Exposition:
    """`about` says on one line what a metric means. A family without samples is there, with none."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def single(self, name: str, kind: Kind, about: str, value: float) -> None:
        self.family(name, kind, about, [({}, value)])

    def family(self, name: str, kind: Kind, about: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> None:
        """`samples`: labels and a value each."""
        self._lines += (f"# HELP {name} {about}", f"# TYPE {name} {kind}")
        self._lines += (f"{name}{_labels(labels)} {value:.15g}" for labels, value in samples)

    def text(self) -> str:
        return "".join(line + "\n" for line in self._lines)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
