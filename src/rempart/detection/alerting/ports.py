"""What alerting needs of others."""

from __future__ import annotations

from typing import Protocol

from .model import Notice


class Channel(Protocol):
    """A way to reach people. Untrusted with what it is told: ids only, no personal data. One task calls it."""

    async def send(self, notice: Notice) -> None:
        """Return once the other side took it. The same notice may come again, with the same id. Raises Unavailable."""

    async def close(self) -> None: ...
