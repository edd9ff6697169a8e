"""Every type of event: what it means, its OCSF 1.5 class and activity, who makes it, what is in it, what is personal.

The one table. `ocsf` takes classes from it, `event_page` makes `docs/events.md` of it, retention and erasure (`audit`)
take from it what may be deleted and what is encrypted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from rempart.kernel.event import EventType


class Ocsf(IntEnum):
    """Classes of OCSF 1.5 (https://schema.ocsf.io/1.5.0/classes) that are used here."""

    EVENT_LOG = 1008
    FINDING = 2004
    ACCOUNT = 3001
    AUTHENTICATION = 3002
    ENTITY = 3004
    NETWORK = 4001
    HTTP = 4002
    APPLICATION = 6002
    API = 6003
    SCAN = 6007


class Retention(StrEnum):
    """What `[audit.retention]` sets a time for."""

    ACCESS = "access"  # what was asked and decided
    IDENTITY = "identity"  # who came and was let in, or not
    ADMINISTRATION = "administration"  # who changed what
    MONEY = "money"
    SECURITY = "security"  # alarms, alerts
    SYSTEM = "system"


OTHER = 99
BY_METHOD = -1

# Fields that say something about a person besides their id, wherever in an event they stand: encrypted in the log
# under a key of that person's own, which is destroyed when they are erased.
PERSONAL = frozenset(
    ("ip", "network", "email", "name", "display_name", "user_agent", "phone", "address", "country", "city", "claims")
)


@dataclass(frozen=True, slots=True)
class Kind:
    """`severity` is the usual one, or from–to. `fields`: of `details`, and `before`/`after` where it has them.

    `emitters` are rooms (folders of `src/rempart`), and `application` for what `POST /events` takes: any program's
    `application` and `money.…`; `delivery.…` and `secrets.…` of the operator and of programs that `[audit.records]`
    names. Rempart itself deploys, scans and keeps secrets for nobody (yet).
    """

    type: EventType
    meaning: str
    ocsf: Ocsf
    activity: int
    emitters: tuple[str, ...]
    retention: Retention
    severity: str = "info"
    fields: tuple[str, ...] = ()
    personal: tuple[str, ...] = ()


_T = EventType
_IP = ("ip",)
_ACCOUNT = ("ip", "before", "after")


def _rows() -> tuple[Kind, ...]:
    k, o, r = Kind, Ocsf, Retention
    return (
        # -- access
        k(_T.DECISION, "The PDP allowed or denied a request", o.API, BY_METHOD, ("policy",), r.ACCESS, "info–high",
          ("rule", "policy_version", "pep", "method", "path", "status", "code", "token_failure", "input"),
          ("ip", "input")),
        k(_T.HANDSHAKE_REFUSED, "Envoy refused a TLS handshake", o.NETWORK, 5, ("audit",), r.ACCESS, "low–medium",
          ("rule", "pep", "sni", "failure", "termination", "count", "first"), _IP),
        k(_T.REQUEST_REFUSED, "Envoy refused a request before asking the PDP", o.HTTP, BY_METHOD, ("audit",), r.ACCESS,
          "low–medium", ("rule", "pep", "method", "path", "status", "flags", "cause", "count", "first"), _IP),
        # -- identity: people
        k(_T.LOGIN, "Somebody logged in", o.AUTHENTICATION, 1, ("people",), r.IDENTITY, "info",
          ("amr", "known_place"), _IP),
        k(_T.LOGIN_FAILED, "A login was refused; `account` is a keyed hash where nobody has that address",
          o.AUTHENTICATION, 1, ("people",), r.IDENTITY, "low–high", ("account", "network", "count"), ("ip", "network")),
        k(_T.LOGIN_THROTTLED, "Too many attempts: not even tried", o.AUTHENTICATION, 1, ("people",), r.IDENTITY,
          "low–high", ("account", "network", "count"), ("ip", "network")),
        k(_T.FACTOR_FAILED, "A second factor was wrong", o.AUTHENTICATION, 1, ("people",), r.IDENTITY, "low–high",
          ("account", "network"), ("ip", "network")),
        k(_T.SESSION_OPENED, "A session began, or was stepped up", o.AUTHENTICATION, 1, ("people",), r.IDENTITY,
          "info", ("session", "kind", "amr"), _IP),
        k(_T.SESSION_ENDED, "A session ended; or its end was told to a client", o.AUTHENTICATION, 2, ("people",),
          r.IDENTITY, "info–medium", ("session", "client", "attempts", "told"), _IP),
        k(_T.SESSION_SUSPECT, "A session looks stolen", o.AUTHENTICATION, OTHER, ("people",), r.IDENTITY,
          "medium–high", ("session", "score"), _IP),
        k(_T.TOKEN_ISSUED, "An access token was issued", o.AUTHENTICATION, 3, ("people",), r.IDENTITY, "info",
          ("token", "client", "scope", "grant", "session"), _IP),
        k(_T.TOKEN_REFRESHED, "A refresh token was exchanged for the next", o.AUTHENTICATION, 3, ("people",),
          r.IDENTITY, "info", ("token", "client", "scope", "session"), _IP),
        k(_T.TOKEN_REFUSED, "A token or code was refused", o.AUTHENTICATION, 3, ("people",), r.IDENTITY, "low–medium",
          ("token", "client", "grant", "session"), _IP),
        k(_T.TOKEN_REUSED, "A code or refresh token came twice: the session is ended", o.AUTHENTICATION, 3, ("people",),
          r.IDENTITY, "high", ("token", "client", "session", "grant"), _IP),
        k(_T.TOKEN_REVOKED, "Tokens or sessions were revoked", o.AUTHENTICATION, 2, ("people",), r.IDENTITY, "info",
          ("token", "client", "session", "ended"), _IP),
        k(_T.LINK_SENT, "A link to reset a password or verify an address was sent", o.ACCOUNT, OTHER, ("people",),
          r.IDENTITY, "info", ("link", "account", "network"), ("ip", "network")),
        k(_T.CLIENT_REFUSED, "An OAuth client could not prove who it is", o.AUTHENTICATION, 3, ("people",), r.IDENTITY,
          "low–medium", ("client", "registration"), _IP),
        # -- administration of people
        k(_T.ACCOUNT_CREATED, "An account was made", o.ACCOUNT, 1, ("people",), r.ADMINISTRATION, "info–medium",
          ("account", "client", "before", "after"), _ACCOUNT),
        k(_T.ACCOUNT_CHANGED, "An account was changed, disabled, enabled", o.ACCOUNT, OTHER, ("people",),
          r.ADMINISTRATION, "info–medium", ("account", "client", "before", "after"), _ACCOUNT),
        k(_T.PERSON_ERASED, "The key of a person's data in the log was destroyed", o.ACCOUNT, 6, ("people", "audit"),
          r.ADMINISTRATION, "medium", ("account",), _ACCOUNT),
        k(_T.ROLE_CHANGED, "A person's role was changed", o.ACCOUNT, 7, ("people",), r.ADMINISTRATION, "info–medium",
          ("account", "client", "before", "after"), _ACCOUNT),
        k(_T.PASSWORD_CHANGED, "A person changed their password", o.ACCOUNT, 3, ("people",), r.ADMINISTRATION, "info",
          ("account", "change", "before", "after"), _ACCOUNT),
        k(_T.PASSWORD_RESET, "A password was set by an administrator or by a link", o.ACCOUNT, 4, ("people",),
          r.ADMINISTRATION, "info–medium", ("account", "before", "after"), _ACCOUNT),
        k(_T.FACTOR_CHANGED, "A second factor was added, removed, reset", o.ACCOUNT, OTHER, ("people",),
          r.ADMINISTRATION, "info–medium", ("account", "change", "before", "after"), _ACCOUNT),
        k(_T.CONSENT_CHANGED, "A person gave a client consent, or took it back", o.ACCOUNT, OTHER, ("people",),
          r.ADMINISTRATION, "info", ("client", "scope", "device", "session", "before", "after"), _IP),
        k(_T.CLIENT_CHANGED, "An OAuth client was registered, changed, removed, a certificate revoked", o.ENTITY, 3,
          ("people",), r.ADMINISTRATION, "info", ("client", "invitation", "until", "before", "after"), _IP),
        k(_T.SIGNING_KEY_ROTATED, "The keys that sign tokens rotated", o.ENTITY, 3, ("people",), r.ADMINISTRATION,
          "info–high", ("before", "after"), _IP),
        # -- workloads
        k(_T.SVID_ISSUED, "A workload got an identity document", o.AUTHENTICATION, 3, ("workloads",), r.IDENTITY,
          "info", ("kind", "serial", "not_after", "entry", "pid", "uid")),
        k(_T.SVID_REFUSED, "A process was given no identity", o.AUTHENTICATION, 3, ("workloads",), r.IDENTITY, "medium",
          ("code", "repeated", "pid", "uid")),
        k(_T.ENTRY_CHANGED, "A registration entry was made, changed, removed", o.ENTITY, 3, ("workloads",),
          r.ADMINISTRATION, "info", ("registrar", "before", "after")),
        k(_T.AGENT_JOINED, "A host joined the trust domain as an agent", o.AUTHENTICATION, 1, ("workloads",),
          r.IDENTITY, "info", ("method", "facts", "serial"), _IP),
        k(_T.AGENT_CHANGED, "A join token was made, an agent banned or evicted", o.ENTITY, 3, ("workloads",),
          r.ADMINISTRATION, "info–medium", ("before", "after")),
        k(_T.AGENT_REFUSED, "An agent, or who would be one, was refused", o.AUTHENTICATION, 1, ("workloads",),
          r.IDENTITY, "medium", ("code", "repeated", "agent", "entry", "asked", "ip"), _IP),
        k(_T.AUTHORITY_ROTATED, "A root, an issuing CA or a JWT-SVID key rotated", o.ENTITY, 3,
          ("workloads", "servers"), r.ADMINISTRATION, "info–high", ("before", "after")),
        k(_T.BUNDLE_CHANGED, "A partner's trust bundle changed", o.ENTITY, 3, ("workloads",), r.ADMINISTRATION, "info",
          ("before", "after")),
        k(_T.BUNDLE_REFUSED, "A partner's trust bundle was not believed", o.ENTITY, 3, ("workloads",),
          r.ADMINISTRATION, "medium", ("trust_domain", "code")),
        # -- policy, delivery, secrets
        k(_T.POLICY_LOADED, "A policy decides from now on", o.APPLICATION, 8, ("policy",), r.ADMINISTRATION, "info",
          ("before", "after")),
        k(_T.POLICY_REFUSED, "A policy was not taken; the one before stays", o.APPLICATION, 8, ("policy",),
          r.ADMINISTRATION, "medium", ("policy_version",)),
        k(_T.DEPLOYMENT, "A release was deployed, refused or rolled back", o.APPLICATION, 8, ("application",),
          r.ADMINISTRATION, "info–medium", ("release", "environment", "digest", "before", "after")),
        k(_T.SCAN, "An image, dependency or configuration scan ended", o.SCAN, 2, ("application",), r.ADMINISTRATION,
          "info–high", ("scanner", "target", "critical", "high", "waived")),
        k(_T.SECRET_READ, "A secret was read, or refused", o.API, 2, ("application",), r.ACCESS, "info–medium",
          ("path", "version"), _IP),
        k(_T.SECRET_CHANGED, "A secret was made, rotated, removed", o.API, 3, ("application",), r.ADMINISTRATION,
          "info", ("path", "version"), _IP),
        # -- money
        k(_T.MONEY_MOVED, "Money went from one account to another", o.API, 1, ("application",), r.MONEY, "info",
          ("transaction", "from", "to", "amount", "kind"), _IP),
        k(_T.MONEY_REFUSED, "A movement of money was refused", o.API, 1, ("application",), r.MONEY, "low",
          ("from", "to", "amount", "kind"), _IP),
        k(_T.MONEY_ROLLED_BACK, "A transaction was reversed", o.API, 3, ("application",), r.MONEY, "medium",
          ("transaction", "rollback", "amount"), _IP),
        k(_T.MONEY_REFUNDED, "A customer got money back", o.API, 3, ("application",), r.MONEY, "medium",
          ("order", "amount"), _IP),
        k(_T.PRICE_OVERRIDDEN, "A price was set by hand", o.API, 3, ("application",), r.MONEY, "medium",
          ("order", "before", "after"), _IP),
        # -- watch
        k(_T.ALERT_RAISED, "The watch says: somebody should look at this", o.FINDING, 1, ("detection",), r.SECURITY,
          "medium–critical", ("alert",)),
        k(_T.MODEL_TRAINED, "A model was trained on the record and is in force", o.APPLICATION, 8, ("detection",),
          r.SECURITY, "info", ("subject", "serial", "sha256", "rows", "left_out", "before", "after")),
        k(_T.MODEL_REFUSED, "A model file was not believed; there is no model of that until the next training",
          o.APPLICATION, 8, ("detection",), r.SECURITY, "medium", ("subject", "code")),
        k(_T.MODEL_DRIFTED, "What happens lately differs from what a model was trained on", o.APPLICATION, OTHER,
          ("detection",), r.SECURITY, "low", ("subject", "features")),
        k(_T.RISK_RAISED, "A model finds somebody's doing unusual: they are asked to prove themselves again",
          o.FINDING, 1, ("detection",), r.SECURITY, "low–medium",
          ("subject", "level", "score", "model", "event", "reasons")),
        k(_T.RISK_CLEARED, "An operator says that it was nothing", o.ENTITY, 3, ("detection",), r.SECURITY, "info",
          ("level",)),
        k(_T.ALERT_CHANGED, "Somebody acknowledged or resolved an incident, or silenced alerts", o.ENTITY, 3,
          ("detection",), r.SECURITY, "info", ("incident", "silence", "note", "before", "after")),
        k(_T.CHANNEL_FAILED, "An alert channel does not take notices; they wait", o.APPLICATION, OTHER,
          ("detection",), r.SYSTEM, "high", ("channel",)),
        k(_T.CHANNEL_RECOVERED, "It takes notices again", o.APPLICATION, OTHER, ("detection",), r.SYSTEM, "info",
          ("channel",)),
        k(_T.ATTACK_TRIED, "`rempart attack` tried an attack on this system", o.FINDING, 1, ("attack",),
          r.SECURITY, "info–high", ("attack", "stride", "stopped_by")),
        k(_T.ALARM, "Rempart noticed that something is wrong with itself", o.FINDING, 1,
          ("audit", "workloads", "servers", "detection"), r.SECURITY, "critical", ("rule",)),
        # -- system
        k(_T.PROCESS_STARTED, "A process of Rempart or a service started", o.APPLICATION, 3, ("servers",), r.SYSTEM,
          "info", ("pid", "version", "profile", "unsafe_disabled")),
        k(_T.PROCESS_STOPPED, "It was stopped", o.APPLICATION, 4, ("servers",), r.SYSTEM, "info", ("pid", "code")),
        k(_T.PROCESS_CRASHED, "It ended by itself", o.APPLICATION, 4, ("servers",), r.SYSTEM, "high",
          ("pid", "code", "signal")),
        k(_T.SETTINGS_CHANGED, "Rempart was started with other settings than before", o.ENTITY, 3, ("servers",),
          r.SYSTEM, "medium", ("before", "after")),
        k(_T.LOG_KEY_ROTATED, "The log's checkpoints are signed by a new key", o.ENTITY, 3, ("audit", "servers"),
          r.SYSTEM, "medium", ("before", "after")),
        k(_T.EVENTS_PRUNED, "Events past their time were deleted, after they were exported", o.EVENT_LOG, 2,
          ("audit", "servers"), r.SYSTEM, "medium", ("first", "end", "deleted", "kept", "export", "sha256")),
        k(_T.HOLD_CHANGED, "A legal hold was put on events, or lifted", o.ENTITY, 3, ("audit", "servers"), r.SYSTEM,
          "medium", ("hold", "before", "after")),
        k(_T.SINK_FAILED, "A sink of events (SIEM) does not take them; they wait in the log", o.APPLICATION, OTHER,
          ("audit",), r.SYSTEM, "high–critical", ("sink", "next", "code")),
        k(_T.SINK_RECOVERED, "It takes events again", o.APPLICATION, OTHER, ("audit",), r.SYSTEM, "info",
          ("sink", "next")),
        k(_T.SINK_REJECTED, "A sink refused events for good; `NAME.rejected.jsonl` names them", o.APPLICATION, OTHER,
          ("audit",), r.SYSTEM, "high", ("sink", "next", "count", "index")),
        k(_T.APPLICATION, "Anything an application wants to be kept", o.API, OTHER, ("application",), r.ACCESS, "any",
          ("…",), _IP),
    )  # fmt: skip


CATALOGUE: dict[EventType, Kind] = {kind.type: kind for kind in _rows()}


_TOLD = ("money.", "application")
_TOLD_HERE = ("delivery.", "secrets.")


def is_told(type: str, source: str) -> bool:
    """Whether a program outside of Rempart said that it happened, and when: nothing that keeps time relies on it."""
    return type.startswith(_TOLD) or (source == "sequencer" and type.startswith(_TOLD_HERE))
