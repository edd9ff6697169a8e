"""What the record says of logins, whatever the door and the means; every refusal reads alike outside."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from rempart.kernel.clock import Clock
from rempart.kernel.errors import Unauthenticated
from rempart.kernel.event import Event, EventType, Recorder, Severity

from .collapse import Collapse
from .model import Account, Origin
from .ports import Tally

TOO_MANY_CODES = "too many wrong one-time codes by somebody who knows the password"


@dataclass(frozen=True)
class LoginRecord:
    """`key` names accounts in counters and records without telling the address. While `flooded`, refusals of logins
    are recorded together, and answered after that as ever."""

    recorder: Recorder
    refusals: Collapse
    clock: Clock
    tally: Tally
    key: bytes = field(repr=False)
    flooded: Callable[[], bool] = lambda: False

    async def succeeded(self, account: Account, amr: tuple[str, ...], known: bool, origin: Origin) -> None:
        """Raises Unavailable; then nothing may be granted."""
        await self.recorder.record(
            origin.stamp(
                Event(
                    type=EventType.LOGIN,
                    at=self.clock.now(),
                    success=True,
                    person=account.id,
                    role=str(account.role),
                    details={"amr": list(amr), "known_place": known},
                )
            )
        )
        self.tally.login("success")

    async def refused(
        self,
        kind: EventType,
        why: str,
        alias: str,
        account: Account | None,
        origin: Origin,
        severity: Severity = Severity.LOW,
    ) -> None:
        self.tally.login("throttled" if kind is EventType.LOGIN_THROTTLED else "failed")
        event = origin.stamp(
            Event(
                type=kind,
                at=self.clock.now(),
                success=False,
                severity=severity,
                reason=why,
                person=account.id if account else None,
                details={"account": alias, "network": origin.network},
            )
        )
        await self.refusals.record(event, origin.network, alias, severity, together=self.flooded())

    async def alarm(
        self, kind: EventType, why: str, person: str, origin: Origin, severity: Severity, **details: str
    ) -> None:
        """A refusal that must be seen: never collapsed with others."""
        await self.recorder.record(
            origin.stamp(
                Event(
                    type=kind,
                    at=self.clock.now(),
                    success=False,
                    severity=severity,
                    reason=why,
                    person=person,
                    details={**details, "network": origin.network},
                )
            )
        )

    def alias(self, address: str) -> str:
        """Stands for an address in counters and in the record: linkable, and not readable without the key."""
        return "eml_" + hmac.digest(self.key, address[:320].encode("utf-8", "replace"), "sha256").hex()[:24]


def login_failed() -> Unauthenticated:
    return Unauthenticated(
        "login_failed",
        "the e-mail address, the password or the one-time code is wrong",
        "try again, or ask an administrator to reset the password",
    )
