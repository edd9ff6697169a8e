"""What the PDP counts of its own work, for /metrics."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field


@dataclass
class Counters:
    """Plain numbers: the hot path only adds. `seconds` are the upper bounds of `buckets`."""

    decisions: dict[tuple[str, str, str], int] = field(default_factory=dict)
    seconds: tuple[float, ...] = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05)
    buckets: list[int] = field(default_factory=lambda: [0] * 9)
    total_seconds: float = 0.0
    unrecorded: int = 0
    malformed: int = 0
    examples: dict[int, tuple[str, float, float]] = field(default_factory=dict)  # of each bucket: trace id, s, when

    def observe(self, elapsed: float) -> None:
        self.total_seconds += elapsed
        for index, bound in enumerate(self.seconds):
            if elapsed <= bound:
                self.buckets[index] += 1
                return
        self.buckets[-1] += 1

    def example(self, elapsed: float, trace_id: str, at: float) -> None:
        """The newest traced decision of its bucket."""
        self.examples[bisect.bisect_left(self.seconds, elapsed)] = (trace_id, elapsed, at)
