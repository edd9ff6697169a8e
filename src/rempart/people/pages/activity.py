"""What happened to each account lately, for its owner to look at. The audit log is the record; this is a copy of it
that may lose the last seconds in a crash, so that no sign-in waits for it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rempart.kernel.errors import RempartError
from rempart.kernel.event import Event, EventType, Recorder
from rempart.people.model import network_of

from .model import Happening

KEEP = 40  # of an account, of what succeeded and as many of what did not: guessing pushes out no success
_WAITING = 2048  # in memory until the next flush
SHOWN = frozenset(
    {
        EventType.LOGIN,
        EventType.LOGIN_FAILED,
        EventType.LOGIN_THROTTLED,
        EventType.TOKEN_REUSED,
        EventType.TOKEN_REVOKED,
        EventType.ACCOUNT_CREATED,
        EventType.ACCOUNT_CHANGED,
        EventType.ROLE_CHANGED,
        EventType.PASSWORD_CHANGED,
        EventType.PASSWORD_RESET,
        EventType.FACTOR_CHANGED,
        EventType.FACTOR_FAILED,
        EventType.SESSION_ENDED,
        EventType.SESSION_SUSPECT,
        EventType.CONSENT_CHANGED,
        EventType.LINK_SENT,
    }
)
_log = logging.getLogger(__name__)


class ActivityStore(Protocol):
    async def add(self, lines: Sequence[tuple[str, Happening]], *, keep: int) -> None:
        """Account ids and what happened to them. Raises Unavailable `store_unavailable`."""

    async def of_account(self, account_id: str) -> Sequence[Happening]:
        """Newest first. Raises Unavailable `store_unavailable`."""

    async def sweep(self, before: float) -> None:
        """Forget what is older, and all of erased accounts. Raises Unavailable `store_unavailable`."""


@dataclass
class Activity:
    """A Recorder that passes every event on and remembers those that concern a person."""

    recorder: Recorder
    store: ActivityStore
    _waiting: deque[tuple[str, Happening]] = field(default_factory=lambda: deque(maxlen=_WAITING))

    async def record(self, event: Event) -> None:
        await self.recorder.record(event)
        whose = _whose(event)
        if event.type in SHOWN and whose:
            network = network_of(event.ip) if event.ip else ""
            line = Happening(what=str(event.type), at=event.at, success=event.success, network=network)
            self._waiting.append((whose, line))

    async def flush(self) -> None:
        """To be called every few seconds. What can't be stored now is tried again."""
        lines = list(self._waiting)
        if not lines:
            return
        self._waiting.clear()
        try:
            await self.store.add(lines, keep=KEEP)
        except RempartError as error:
            self._waiting.extendleft(reversed(lines[-(_WAITING - len(self._waiting)) :]))
            _log.warning("activity: %s", error.code)

    async def of_account(self, account_id: str) -> Sequence[Happening]:
        await self.flush()
        return await self.store.of_account(account_id)


def _whose(event: Event) -> str | None:
    """Whom it concerns: of an administrator's act the other one."""
    for state in (event.after, event.before):
        if state and isinstance(state.get("id"), str) and state["id"].startswith("usr_"):
            return str(state["id"])
    about = event.details.get("account")
    if event.type not in (EventType.LOGIN_FAILED, EventType.LOGIN_THROTTLED) and isinstance(about, str):
        return about if about.startswith("usr_") else event.person
    return event.person
