"""The keys that the supervisor holds. The master key is not among them: who starts it derives them, and ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SupervisorKeys:
    """32 bytes each: one for every process, by its name, and `sealing`, under which root keys lie on disk."""

    processes: Mapping[str, bytes] = field(repr=False)
    sealing: bytes = field(repr=False)
