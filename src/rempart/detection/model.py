"""What the watch hands on: an alert, frozen and complete, that names its proofs and nobody's personal data."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from rempart.kernel.event import Severity


class Origin(StrEnum):
    """What made the alert."""

    RULE = "rule"
    MODEL = "model"
    RULE_AND_MODEL = "rule+model"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that somebody should look at.

    `id` is a function of rule, group and the event that completed it: the same events give the same alert, however
    often they are read. `rule` is the rule's name (a slug), `attack` MITRE ATT&CK ids (`T1110.003`).
    `principals` are references such as `person:usr_…`, `workload:spiffe://…`, `session:…`, sorted: ids only, never an
    address or a name. `first` and `last` are seconds since the epoch, of the evidence and not of the clock.
    `evidence` holds ids of events in the log, oldest first, at most MAX_EVIDENCE; each opens with
    `rempart audit show|prove ID`. `count` is how many events (with the ones that an event stands for) there were.
    `reason` is a sentence without personal data, secrets or text from outside. `score` is a model's, from 0 to 1.
    """

    id: str
    rule: str
    title: str
    severity: Severity
    first: float
    last: float
    reason: str
    evidence: tuple[str, ...]
    count: int = 1
    attack: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    origin: Origin = Origin.RULE
    score: float | None = None

    def document(self) -> dict[str, Any]:
        """As JSON has it: in `details` of the event `alert.raised`, in `rempart detect --json`, in a webhook."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in found.items() if value is not None}


MAX_EVIDENCE = 32


def read_alert(document: object) -> Alert:
    """The alert of `Alert.document`; raises msgspec.ValidationError."""
    return msgspec.convert(document, Alert)
