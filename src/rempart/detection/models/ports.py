"""What the models need of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from .estimators import Forest, Neighbours, Support

if TYPE_CHECKING:
    from .trained import Trained
    from .training import Job


class Fitter(Protocol):
    """A library that fits the three estimators. Rows are float32 values of equal width; `seed` makes it repeatable.

    Runs in a process of its own (`servers/model_trainer.py`): may be slow and large.
    """

    def forest(self, rows: Sequence[Sequence[float]], *, seed: int) -> Forest: ...

    def support(self, rows: Sequence[Sequence[float]], *, nu: float) -> Support: ...

    def neighbours(self, rows: Sequence[Sequence[float]], *, k: int) -> Neighbours: ...


class Trainer(Protocol):
    async def train(self, job: Job) -> Trained:
        """In another process, of low priority. What comes back is not believed before it was checked.

        Raises Unavailable `no_trainer` (the extra `models` is not installed) or `training_failed`, Unprocessable.
        """
