"""Events that were recorded on another host, as its agent tells them: the server believes an agent only what can have
happened on its host, and marks all of it as its."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from rempart.kernel.errors import BadInput, Denied
from rempart.kernel.event import Event, EventType, Severity
from rempart.protocols.ocsf import HOISTED

MAX_EVENTS = 1000
AHEAD = 60.0
"""Seconds that a host's clock may be ahead of ours: what is said to be later happened by then."""
_MONEY = frozenset(kind for kind in EventType if kind.startswith("money."))
_OF_SOURCE: dict[str, frozenset[EventType]] = {
    "pdp": frozenset((EventType.DECISION, EventType.POLICY_LOADED, EventType.POLICY_REFUSED, EventType.ALARM)),
    "host-agent": frozenset(
        (
            *(EventType.SVID_ISSUED, EventType.SVID_REFUSED, EventType.BUNDLE_REFUSED, EventType.ALARM),
            *(EventType.HANDSHAKE_REFUSED, EventType.REQUEST_REFUSED, EventType.APPLICATION, *_MONEY),
        )
    ),
    "supervisor": frozenset(
        (
            *(EventType.PROCESS_STARTED, EventType.PROCESS_STOPPED, EventType.PROCESS_CRASHED),
            *(EventType.SETTINGS_CHANGED, EventType.ALARM),
        )
    ),
}
_OF_PROGRAM = frozenset((EventType.APPLICATION, *_MONEY))
"""What else a program says in them is its own affair."""
_OF_SERVICE = frozenset((EventType.DECISION, EventType.HANDSHAKE_REFUSED, EventType.REQUEST_REFUSED, *_OF_PROGRAM))
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_RESERVED = {EventType.DECISION: "dec_"}
_FORBIDDEN = ("dec_", "alr_")


class _Own(msgspec.Struct, frozen=True, omit_defaults=True):
    """`unmapped.rempart` as `protocols.ocsf.encode` writes it; `at` in milliseconds.

    What an application may name in its details and `encode` takes out of them (`HOISTED`) is anything: one program must
    not be able to make its host's events unreadable here, for they are told in order and wait for each other."""

    id: str
    type: EventType
    at: int
    success: bool
    severity: Severity
    source: str
    reason: str = ""
    person: str | None = None
    role: str | None = None
    workload: str | None = None
    operator: str | None = None
    ip: str | None = None
    service: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    details: dict[str, Any] = {}
    truncated: bool = False
    rule: Any = None
    policy_version: Any = None
    pep: Any = None
    method: Any = None
    path: Any = None
    status: Any = None
    code: Any = None


class _Unmapped(msgspec.Struct, frozen=True):
    rempart: _Own


class _Envelope(msgspec.Struct, frozen=True):
    unmapped: _Unmapped


_decode = msgspec.json.Decoder(_Envelope).decode


def read_recorded(
    agent: str, services: frozenset[str], source: str, payloads: Sequence[bytes], now: float
) -> list[Event]:
    """All or none; `now` is our own time. Raises BadInput `bad_event`, Denied `foreign_service`: an event of what
    doesn't run there."""
    allowed = _OF_SOURCE.get(source)
    if allowed is None or len(payloads) > MAX_EVENTS:
        raise BadInput("bad_event", f"an agent can't tell {len(payloads)} events of {source[:50]!r}")
    return [_event(agent, services, allowed, payload, now) for payload in payloads]


def believed(at: float, now: float, details: dict[str, Any]) -> float:
    """When it happened, by a clock that is not ours: one that is ahead, or lies, would end every window of detection
    and keep its neighbours in the log for ever. What was told stays in `details`."""
    latest = now + AHEAD
    if at > latest:
        details["told_at"] = at
    return min(at, latest)


def _event(agent: str, services: frozenset[str], allowed: frozenset[EventType], payload: bytes, now: float) -> Event:
    try:
        own = _decode(payload).unmapped.rempart
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("bad_event", f"not an event of ours: {str(error)[:200]}") from None
    prefix = _RESERVED.get(own.type)
    named = own.id.startswith(prefix) if prefix else not own.id.startswith(_FORBIDDEN)
    if own.type not in allowed or not _ID.fullmatch(own.id) or not named:
        raise BadInput("bad_event", f"an agent can't record {own.type} under {own.id[:50]!r}")
    if not 0 <= own.at < 253_402_300_800_000:  # the year 10000
        raise BadInput("bad_event", "`at` is not in milliseconds since the epoch")
    if own.type in _OF_SERVICE and not _of_here(own, services):
        raise Denied("foreign_service", f"{own.service or own.pep!r:.80} does not run on the host of {agent}")
    details = {**own.details, **{name: found for name in HOISTED if (found := getattr(own, name)) is not None}}
    if own.truncated:
        details["truncated"] = True
    return Event(
        id=own.id,
        type=own.type,
        at=believed(own.at / 1000, now, details),
        success=own.success,
        severity=own.severity,
        reason=own.reason,
        person=own.person,
        role=own.role,
        workload=own.workload,
        operator=own.operator,
        ip=own.ip,
        service=own.service,
        request_id=own.request_id,
        trace_id=own.trace_id,
        before=own.before,
        after=own.after,
        details={**details, "agent": agent},
    )


def _of_here(own: _Own, services: frozenset[str]) -> bool:
    if own.type in _OF_PROGRAM:
        return own.service in services
    named = [one for one in (own.service, own.pep) if one is not None]
    if own.type is EventType.DECISION and own.pep is None:
        return False
    return bool(named) and all(isinstance(one, str) and one in services for one in named)
