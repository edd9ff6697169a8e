"""What the audit trail keeps: one frozen value per fact, and the port that makes it durable.

`rempart.protocols.ocsf` turns an event into the OCSF JSON that is journaled, hashed and searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from .ids import new_id


class EventType(StrEnum):
    """Every type of event there is. A new one has its line here and its row in `protocols.event_catalogue`."""

    DECISION = "decision"
    HANDSHAKE_REFUSED = "mesh.handshake_refused"
    REQUEST_REFUSED = "mesh.request_refused"
    LOGIN = "people.login"
    LOGIN_FAILED = "people.login_failed"
    LOGIN_THROTTLED = "people.login_throttled"
    TOKEN_REFRESHED = "people.token_refreshed"  # nosec B105 - the name of an event
    TOKEN_REFUSED = "people.token_refused"  # nosec B105 - the name of an event
    TOKEN_REUSED = "people.token_reused"  # nosec B105 - the name of an event
    TOKEN_REVOKED = "people.token_revoked"  # nosec B105 - the name of an event
    ACCOUNT_CREATED = "people.account_created"
    ACCOUNT_CHANGED = "people.account_changed"
    PERSON_ERASED = "people.erased"
    ROLE_CHANGED = "people.role_changed"
    PASSWORD_CHANGED = "people.password_changed"  # nosec B105 - the name of an event
    FACTOR_CHANGED = "people.factor_changed"
    FACTOR_FAILED = "people.factor_failed"
    SESSION_OPENED = "people.session_opened"
    SESSION_ENDED = "people.session_ended"
    SESSION_SUSPECT = "people.session_suspect"
    TOKEN_ISSUED = "people.token_issued"  # nosec B105 - the name of an event
    CLIENT_CHANGED = "people.client_changed"
    CLIENT_REFUSED = "people.client_refused"
    CONSENT_CHANGED = "people.consent_changed"
    LINK_SENT = "people.link_sent"
    PASSWORD_RESET = "people.password_reset"  # nosec B105 - the name of an event
    SIGNING_KEY_ROTATED = "people.signing_key_rotated"
    SVID_ISSUED = "workloads.svid_issued"
    SVID_REFUSED = "workloads.svid_refused"
    ENTRY_CHANGED = "workloads.entry_changed"
    AGENT_JOINED = "workloads.agent_joined"
    AGENT_CHANGED = "workloads.agent_changed"
    AGENT_REFUSED = "workloads.agent_refused"
    AUTHORITY_ROTATED = "workloads.authority_rotated"
    BUNDLE_CHANGED = "workloads.bundle_changed"
    BUNDLE_REFUSED = "workloads.bundle_refused"
    POLICY_LOADED = "policy.loaded"
    POLICY_REFUSED = "policy.refused"
    DEPLOYMENT = "delivery.deployment"
    SCAN = "delivery.scan"
    SECRET_READ = "secrets.read"  # nosec B105 - the name of an event
    SECRET_CHANGED = "secrets.changed"  # nosec B105 - the name of an event
    MONEY_MOVED = "money.moved"
    MONEY_REFUSED = "money.refused"
    MONEY_ROLLED_BACK = "money.rolled_back"
    MONEY_REFUNDED = "money.refunded"
    PRICE_OVERRIDDEN = "money.price_overridden"
    PROCESS_STARTED = "system.process_started"
    PROCESS_STOPPED = "system.process_stopped"
    PROCESS_CRASHED = "system.process_crashed"
    SETTINGS_CHANGED = "system.settings_changed"
    SINK_FAILED = "sink.failed"
    SINK_RECOVERED = "sink.recovered"
    SINK_REJECTED = "sink.rejected"
    LOG_KEY_ROTATED = "system.log_key_rotated"
    EVENTS_PRUNED = "system.events_pruned"
    HOLD_CHANGED = "system.hold_changed"
    ATTACK_TRIED = "attack.tried"
    ALARM = "system.alarm"
    MODEL_TRAINED = "models.trained"
    MODEL_REFUSED = "models.refused"
    MODEL_DRIFTED = "models.drifted"
    RISK_RAISED = "models.risk_raised"
    RISK_CLEARED = "models.risk_cleared"
    ALERT_RAISED = "alert.raised"
    ALERT_CHANGED = "alert.changed"
    CHANNEL_FAILED = "alert.channel_failed"
    CHANNEL_RECOVERED = "alert.channel_recovered"
    APPLICATION = "application"


class Severity(StrEnum):
    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Who (`person`, `workload`), what (`type`, `details`), when (`at`), from where (`ip`), outcome.

    `at` is in seconds since the epoch. `person` is an account id, `workload` a SPIFFE ID, `operator` the local user
    that ran an administrative command (`uid:1000`). `service` is what was acted on. `before` and `after` are set on
    administration. Nothing here may hold a secret.
    """

    type: EventType
    at: float
    success: bool
    id: str = field(default_factory=lambda: new_id("evt"))
    severity: Severity = Severity.INFO
    reason: str = ""
    person: str | None = None
    role: str | None = None
    workload: str | None = None
    operator: str | None = None
    ip: str | None = None
    service: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class Recorder(Protocol):
    """Where every process sends its events."""

    async def record(self, event: Event) -> None:
        """Return when the event is on disk; raises Unavailable `journal_unavailable` and then nothing may be granted.

        Safe to call from many tasks at once: their events share one `fdatasync`.
        """
