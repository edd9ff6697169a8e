"""What Envoy refused before the PDP was asked, from its access log: refused handshakes and refused requests.

Bounded: an attacker makes as many of these as the network carries. Of refusals that are alike within a second only the
first is recorded in full and the rest as a number; and there are at most MAX_KINDS kinds a second, the rest counted
together.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import msgspec

from rempart.kernel.event import Event, EventType, Severity
from rempart.protocols.masking import mask_target

MAX_KINDS = 64
MAX_LINE_BYTES = 64 << 10


class _Line(msgspec.Struct, frozen=True):
    kind: str
    pep: str | None = None
    ip: str | None = None
    peer: str | None = None
    sni: str | None = None
    tls_failure: str | None = None
    method: str | None = None
    path: str | None = None
    status: int | str | None = None
    flags: str | None = None
    details: str | None = None
    request_id: str | None = None
    decision: str | None = None


_decode = msgspec.json.Decoder(_Line).decode


def read_line(line: bytes, envoy: str, at: float) -> Event | None:
    """The event of one line of the Envoy named `envoy`; None for what isn't a refusal of Envoy's own."""
    try:
        told = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # something else that the process printed
    details: dict[str, Any] = {"pep": envoy}
    if told.kind == "tls":
        details |= _given(rule="mesh.tls", sni=told.sni, failure=told.tls_failure, termination=told.details)
        reason = told.tls_failure or told.details or "the TLS handshake failed"
        kind = EventType.HANDSHAKE_REFUSED
    elif told.kind == "http" and not told.decision and _is_refusal(told.status):
        details |= _given(
            rule="mesh.http",
            method=told.method,
            path=mask_target(told.path) if told.path else None,
            status=int(told.status or 0),
            flags=told.flags,
            cause=told.details,
        )
        reason = told.details or f"refused with {told.status}"
        kind = EventType.REQUEST_REFUSED
    else:
        return None
    return Event(
        type=kind,
        at=at,
        success=False,
        severity=Severity.LOW,
        reason=reason[:500],
        workload=told.peer or None,
        ip=told.ip or None,
        service=envoy,
        request_id=told.request_id or None,
        details=details,
    )


def _is_refusal(status: int | str | None) -> bool:
    try:
        return 400 <= int(status or 0) < 500
    except ValueError:
        return False


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, "", "-")}


@dataclass
class _Kind:
    first: Event
    more: int = 0


class Collapser:
    """Feed it with `take`; what must be recorded now comes back, the counts come from `drain` once a second."""

    def __init__(self, monotonic: Any = time.monotonic) -> None:
        self._monotonic = monotonic
        self._started = monotonic()
        self._kinds: dict[tuple[Any, ...], _Kind] = {}
        self._others = 0

    def take(self, event: Event) -> Event | None:
        """The event itself if it is the first of its kind in this second."""
        key = (event.type, event.service, event.ip, event.workload, event.reason, event.details.get("status"))
        kind = self._kinds.get(key)
        if kind is not None:
            kind.more += 1
            return None
        if len(self._kinds) >= MAX_KINDS:
            self._others += 1
            return None
        self._kinds[key] = _Kind(event)
        return event

    def drain(self, at: float) -> list[Event]:
        """Once a second has passed: one event for each kind that came again, with how often."""
        if self._monotonic() - self._started < 1.0:
            return []
        kinds, self._kinds = self._kinds, {}
        others, self._others = self._others, 0
        self._started = self._monotonic()
        counted = [_repeated(kind, at) for kind in kinds.values() if kind.more]
        if others:
            counted.append(
                Event(
                    type=EventType.REQUEST_REFUSED,
                    at=at,
                    success=False,
                    severity=Severity.MEDIUM,
                    reason="more refusals of other kinds than are recorded one by one",
                    details={"rule": "mesh.flood", "count": others},
                )
            )
        return counted


def _repeated(kind: _Kind, at: float) -> Event:
    first = kind.first
    return Event(
        type=first.type,
        at=at,
        success=False,
        severity=Severity.MEDIUM,
        reason=first.reason,
        workload=first.workload,
        ip=first.ip,
        service=first.service,
        details={**first.details, "count": kind.more, "first": first.id},
    )
