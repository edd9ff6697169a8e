"""`[people.session_limits]` of rempart.toml: when sessions end by themselves, and how many a person may have."""

from __future__ import annotations

import msgspec

from rempart.people.sessions.model import GRANTS, KEEP, LIMITS, Kind, Limits

from .check import Reader

OFFERED, OFF = "offered", "off"
_SHORTEST, _LONGEST = 60, 366 * 86400  # seconds


class SessionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`limits` by kind. `per_person` living sessions, and `grants_per_person` families of refresh tokens.
    `device_binding`: browsers that can are asked for a key of their device."""

    limits: dict[Kind, Limits] = msgspec.field(default_factory=lambda: dict(LIMITS))
    per_person: int = KEEP
    grants_per_person: int = GRANTS
    device_binding: bool = True


def read_sessions(people: Reader) -> SessionSettings:
    """`people` is the reader of the table `people`."""
    limits = people.table("session_limits")
    binding = people.text("device_binding", default=OFFERED)
    if binding not in (OFFERED, OFF):
        people.refuse("device_binding", f"{binding[:40]!r} is none of them", f"use {OFFERED} or {OFF}")
    settings = SessionSettings(
        limits={kind: _limits(limits.table(kind), usual) for kind, usual in LIMITS.items()},
        per_person=limits.number("per_person", KEEP, at_most=1000),
        grants_per_person=limits.number("grants_per_person", GRANTS, at_most=1000),
        device_binding=binding == OFFERED,
    )
    limits.no_more()
    return settings


def _limits(kind: Reader, usual: Limits) -> Limits:
    absolute = kind.seconds("absolute", int(usual.absolute), at_least=_SHORTEST, at_most=_LONGEST)
    idle = kind.seconds("idle", min(int(usual.idle), absolute), at_least=_SHORTEST, at_most=_LONGEST)
    if idle > absolute and not kind.failed("idle", "absolute"):
        kind.refuse("idle", f"idle is {idle} and absolute only {absolute} seconds", "choose an idle that is shorter")
    kind.no_more()
    return Limits(idle=idle, absolute=absolute)
