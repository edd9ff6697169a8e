"""What somebody is told of, and what was told: incidents, silences and notices."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from rempart.kernel.event import Severity

ORDER = (Severity.INFO, Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)


def at_least(severity: Severity, least: Severity) -> bool:
    return ORDER.index(severity) >= ORDER.index(least)


class Standing(StrEnum):
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Incident(msgspec.Struct, kw_only=True):
    """All alerts of one rule about the same principals, from the first until it is resolved.

    `id` is that of its first alert. Times are seconds since the epoch: `first` and `last` of the evidence, `changed_at`
    of the clock. `alerts` are the last MAX_ALERTS alert ids, `evidence` the last alert's. `by` is who acknowledged or
    resolved it (`uid:0`; `quiet` when nothing more came).
    """

    id: str
    rule: str
    title: str
    severity: Severity
    reason: str
    first: float
    last: float
    changed_at: float
    principals: tuple[str, ...] = ()
    attack: tuple[str, ...] = ()
    standing: Standing = Standing.OPEN
    count: int = 1
    alerts: list[str] = []
    evidence: tuple[str, ...] = ()
    score: float | None = None
    silenced: bool = False
    notified_at: float = 0.0
    by: str = ""
    note: str = ""

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is sent of incidents that match all that is given here, until `until`. They are kept all the same."""

    id: str
    until: float
    by: str
    why: str
    rule: str = ""
    principal: str = ""

    def matches(self, incident: Incident, now: float) -> bool:
        return (
            now < self.until
            and self.rule in ("", incident.rule)
            and (not self.principal or self.principal in incident.principals)
        )


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One message about incidents of one rule. `id` stays the same whenever it is sent again."""

    id: str
    kind: str  # "firing" | "resolved" | "test"
    at: float
    rule: str
    title: str
    severity: Severity
    incidents: tuple[Incident, ...]
    more: int = 0  # incidents that it has no room for

    def document(self) -> dict[str, Any]:
        """What a webhook's receiver gets as `data`."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    def subject(self) -> str:
        state = "" if self.kind == "firing" else f"{self.kind}: "
        count = len(self.incidents) + self.more
        return f"[{self.severity.value}] {state}{self.title}" + (f" ({count} incidents)" if count > 1 else "")

    def lines(self) -> list[str]:
        """What to read, and how to look at it."""
        lines: list[str] = []
        for incident in self.incidents:
            whom = ", ".join(incident.principals) or "nobody in particular"
            lines += [f"{incident.reason}", f"  about: {whom}", f"  alerts: {incident.count}, incident {incident.id}"]
            if incident.attack:
                lines.append("  MITRE ATT&CK: " + ", ".join(incident.attack))
            if incident.evidence:
                lines.append(f"  rempart audit show {incident.evidence[-1]}")
        if self.more:
            lines.append(f"and {self.more} more: rempart alert list")
        return lines


MAX_ALERTS = 32
