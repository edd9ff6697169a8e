"""Events that programs tell: `POST /events` on a service's own socket; and the operator, on the sequencer's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from rempart.kernel.errors import BadInput
from rempart.kernel.event import Event, EventType, Severity
from rempart.protocols.masking import mask, mask_text

MAX_BODY_BYTES = 1 << 20
MAX_EVENTS = 1000
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_RESERVED = ("dec_", "alr_")  # no application can make what looks like a decision or an alert
TYPES = frozenset(kind for kind in EventType if kind.startswith("money.") or kind is EventType.APPLICATION)
"""What any program may tell."""


def types_with(groups: Iterable[str]) -> frozenset[EventType]:
    """TYPES, and those of the groups (`delivery`, `secrets`) that `[audit.records]` lets a program tell."""
    return TYPES | {kind for kind in EventType if kind.partition(".")[0] in RECORDS.intersection(groups)}


RECORDS = frozenset(("delivery", "secrets"))
"""What happens outside of Rempart and is believed of the programs alone that the operator names for it."""


class _Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    type: str
    at: float
    success: bool
    reason: str = ""
    person: str | None = None
    role: str | None = None
    workload: str | None = None
    operator: str | None = None
    ip: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    severity: Severity = Severity.INFO
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    details: dict[str, Any] = {}


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    events: list[_Told]


_decode = msgspec.json.Decoder(_Body).decode


def read_events(
    body: bytes, service: str | None, types: frozenset[EventType] = TYPES, operator: str | None = None
) -> list[Event]:
    """The events told by `service`, or by the operator, whatever the body says about where they come from.

    Raises BadInput `bad_event`.
    """
    try:
        told = _decode(body).events
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(str(error)) from None
    if len(told) > MAX_EVENTS:
        raise _bad(f"{len(told)} events at once")
    return [_event(one, service, types, operator) for one in told]


def _event(told: _Told, service: str | None, types: frozenset[EventType], operator: str | None) -> Event:
    if not _ID.fullmatch(told.id) or told.id.startswith(_RESERVED):
        raise _bad(f"{told.id[:50]!r} can't be an event's id")
    if told.type not in types:
        raise _bad(f"{service or 'the operator'} can't record {told.type[:50]!r}; see [audit.records] in rempart.toml")
    if not 0 <= told.at < 253_402_300_800:  # the year 10000
        raise _bad("`at` is not in seconds since the epoch")
    return Event(
        id=told.id,
        type=EventType(told.type),
        at=told.at,
        success=told.success,
        severity=told.severity,
        reason=mask_text(told.reason),
        person=told.person,
        role=told.role,
        workload=told.workload,
        operator=operator or told.operator,
        ip=told.ip,
        service=service,
        request_id=told.request_id,
        trace_id=told.trace_id,
        before=mask(told.before),
        after=mask(told.after),
        details=mask(told.details),
    )


def _bad(why: str) -> BadInput:
    return BadInput("bad_event", f"these events can't be recorded: {why}"[:500], "see docs/audit.md for their fields")
