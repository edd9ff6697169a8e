"""Which events of the log are alerts, and which say that an alert's cause is over."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from rempart.detection.model import Alert, read_alert
from rempart.kernel.event import EventType, Severity

_ADDRESS = re.compile(r"[^\s@<>\"']{1,64}@[^\s@<>\"']{1,190}")
_WATCHING = frozenset({"detector", "models"})  # processes whose word on alerts is taken


class _Own(msgspec.Struct):
    type: str
    id: str = ""
    source: str = ""
    severity: str = "info"
    reason: str = ""
    at: float = 0.0  # milliseconds
    rule: str = ""
    details: dict[str, Any] = {}


class _Unmapped(msgspec.Struct):
    rempart: _Own


class _Event(msgspec.Struct):
    unmapped: _Unmapped


_decode = msgspec.json.Decoder(_Event).decode


def read(payload: bytes) -> tuple[Alert | None, tuple[str, tuple[str, ...]] | None]:
    """(the alert that the event is, the rule and principals whose incident it ends); both None for most events."""
    try:
        own = _decode(payload).unmapped.rempart
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None
    if own.type == EventType.ALERT_RAISED and own.source in _WATCHING:
        try:
            return read_alert(own.details.get("alert")), None
        except msgspec.ValidationError:
            return None, None
    if own.type == EventType.ALARM:
        return _alarm(own, own.rule or "system.alarm", "Rempart reports a fault", own.source), None
    if own.type in (EventType.SINK_FAILED, EventType.SINK_REJECTED):
        return _alarm(own, own.type, "Events do not reach another system", f"sink:{own.details.get('sink', '')}"), None
    if own.type == EventType.SINK_RECOVERED:
        return None, (EventType.SINK_FAILED, (f"sink:{own.details.get('sink', '')}",))
    return None, None


def _alarm(own: _Own, rule: str, title: str, about: str) -> Alert:
    at = own.at / 1000
    return Alert(
        id=own.id,
        rule=rule[:100],
        title=title,
        severity=Severity(own.severity) if own.severity in Severity.__members__.values() else Severity.HIGH,
        first=at,
        last=at,
        reason=_ADDRESS.sub("…", own.reason)[:300],
        evidence=(own.id,),
        principals=(about if ":" in about else f"process:{about}",),
    )
