"""Events as OCSF JSON (Open Cybersecurity Schema Framework 1.5), one line each: what is journaled, hashed and searched.

Each type of event has an OCSF class and activity, so any SIEM that speaks OCSF understands the envelope; everything
Rempart itself needs stands once more under `unmapped.rempart`, which is what our own readers use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from rempart.kernel.errors import BadInput
from rempart.kernel.event import Event, EventType, Severity

from .event_catalogue import BY_METHOD, CATALOGUE, OTHER, Ocsf

VERSION = "1.5.0"
MAX_BYTES = 65_535  # an entry of a tlog-tiles bundle has a 16-bit length
_MAX_STRING = 1_024  # of each string, once an event was found too long

_CREATE, _READ, _UPDATE, _DELETE = 1, 2, 3, 4
_NEW = 1  # status of a finding
CLASSES: dict[EventType, tuple[int, int]] = {kind: (int(row.ocsf), row.activity) for kind, row in CATALOGUE.items()}
_API_ACTIVITY = {"POST": _CREATE, "GET": _READ, "HEAD": _READ, "PUT": _UPDATE, "PATCH": _UPDATE, "DELETE": _DELETE}
_HTTP_ACTIVITY = {"CONNECT": 1, "DELETE": 2, "GET": 3, "HEAD": 4, "OPTIONS": 5, "POST": 6, "PUT": 7, "TRACE": 8}
_SEVERITY = {Severity.INFO: 1, Severity.LOW: 2, Severity.MEDIUM: 3, Severity.HIGH: 4, Severity.CRITICAL: 5}
_PRODUCT = {"name": "Rempart", "vendor_name": "Rempart"}
_PERSON, _SYSTEM, _OTHER_USER = 1, 3, 99  # user.type_id: 1.5 has no "service" yet

# Taken out of an event's `details` and put beside them, because people search by them.
HOISTED = ("rule", "policy_version", "pep", "method", "path", "status", "code")
_HOISTED = frozenset(HOISTED)


class Summary(msgspec.Struct, frozen=True, gc=False):
    """What searching needs of an event. `at` is in milliseconds since the epoch."""

    id: str
    type: str
    source: str
    at: int
    success: bool = False
    severity: str = "info"
    reason: str = ""
    person: str | None = None
    role: str | None = None
    workload: str | None = None
    operator: str | None = None
    ip: str | None = None
    service: str | None = None
    request_id: str | None = None
    rule: str | None = None
    method: str | None = None
    path: str | None = None


class _Unmapped(msgspec.Struct, frozen=True, gc=False):
    rempart: Summary


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    unmapped: _Unmapped


def _plain(value: Any) -> Any:
    """msgspec's hook for what JSON has no type for: any mapping is an object, anything else its text."""
    return dict(value) if isinstance(value, Mapping) else str(value)


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
_decode = msgspec.json.Decoder(_Envelope).decode


def encode(event: Event, source: str) -> bytes:
    """One line of JSON, at most 65,535 bytes: strings of a longer event are cut and it is marked `truncated`.

    `source` is the process that made the event; `metadata.uid` is the event's id. Never raises for what an outsider
    put into an event (lone surrogates, huge numbers): an attacker must not be able to choose what isn't recorded.
    """
    document = _document(event, source)
    try:
        payload = _encode(document)
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError, RecursionError):
        payload = _encode(_cut(document))
    if len(payload) > MAX_BYTES:
        document["unmapped"]["rempart"]["truncated"] = True
        payload = _encode(_cut(document))
    if len(payload) > MAX_BYTES:
        document["unmapped"]["rempart"].update(details={}, before=None, after=None)
        payload = _encode(_cut(document))
    return payload


def decode_summary(payload: bytes) -> Summary:
    """Raises BadInput `bad_event` for what `encode` can't have written."""
    try:
        return _decode(payload).unmapped.rempart
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("bad_event", f"not an event of ours: {error}") from None


def _document(event: Event, source: str) -> dict[str, Any]:
    class_uid, activity = CLASSES[event.type]
    details = event.details
    if activity == BY_METHOD:
        activities = _API_ACTIVITY if class_uid == Ocsf.API else _HTTP_ACTIVITY
        activity = activities.get(str(details.get("method", "")), OTHER)
    at = int(event.at * 1000)
    own: dict[str, Any] = {
        "id": event.id,
        "type": event.type,
        "source": source,
        "at": at,
        "success": event.success,
        "severity": event.severity,
    }
    for name in ("reason", "person", "role", "workload", "operator", "ip", "service", "request_id", "trace_id"):
        value = getattr(event, name)
        if value:
            own[name] = value
    if event.before is not None:
        own["before"] = event.before
    if event.after is not None:
        own["after"] = event.after
    if details:
        rest = {}
        for name, value in details.items():
            if name in _HOISTED:
                own[name] = value
            else:
                rest[name] = value
        for name in ("rule", "method", "path"):  # searched as text: whatever was given is kept as text
            if name in own and not isinstance(own[name], str):
                own[name] = str(own[name])
        if rest:
            own["details"] = rest
    metadata: dict[str, Any] = {"version": VERSION, "product": _PRODUCT, "uid": event.id, "log_provider": source}
    if event.request_id:
        metadata["correlation_uid"] = event.request_id
    document: dict[str, Any] = {
        "class_uid": class_uid,
        "category_uid": class_uid // 1000,
        "activity_id": activity,
        "type_uid": class_uid * 100 + activity,
        "time": at,
        "severity_id": _SEVERITY[event.severity],
        "status_id": 1 if event.success else 2,
        "metadata": metadata,
    }
    if event.reason:
        document["status_detail"] = event.reason
    if event.ip and class_uid in _WITH_SOURCE:
        document["src_endpoint"] = {"ip": event.ip}
    _CLASS_FIELDS[class_uid](document, event, own)
    document["unmapped"] = {"rempart": own}
    return document


def _user(event: Event) -> dict[str, Any]:
    if event.person:
        return {"uid": event.person, "type_id": _PERSON}
    if event.operator:
        return {"uid": event.operator, "type_id": _SYSTEM}
    if event.workload:
        return {"uid": event.workload, "type": "Service", "type_id": _OTHER_USER}
    return {"name": "unknown", "type_id": 0}


def _actor(event: Event) -> dict[str, Any]:
    actor: dict[str, Any] = {"user": _user(event)}
    if event.workload and event.person:
        actor["app_uid"] = event.workload
    return actor


def _api(document: dict[str, Any], event: Event, own: dict[str, Any]) -> None:
    operation = f"{own['method']} {own.get('path', '')}" if "method" in own else str(event.type)
    document.setdefault("src_endpoint", {"svc_name": own["source"]})  # the class requires one
    document["api"] = {"operation": operation, "service": {"name": event.service or own["source"]}}
    actor = _actor(event)
    if event.type is EventType.DECISION:
        policy = {"name": own.get("rule", ""), "version": own.get("policy_version", "")}
        actor["authorizations"] = [{"decision": "allow" if event.success else "deny", "policy": policy}]
    document["actor"] = actor


def _http(document: dict[str, Any], event: Event, own: dict[str, Any]) -> None:
    asked = document["http_request"] = {"url": {"path": own.get("path", "")}}
    if own.get("method") in _HTTP_ACTIVITY:
        asked["http_method"] = own["method"]
    if isinstance(own.get("status"), int):
        document["http_response"] = {"code": own["status"]}


def _authentication(document: dict[str, Any], event: Event, own: dict[str, Any]) -> None:
    document["user"] = _user(event)
    document["service"] = {"name": event.service or own["source"]}


def _account(document: dict[str, Any], event: Event, own: dict[str, Any]) -> None:
    """`user` is the account changed, `actor` who changed it."""
    document["user"] = {"uid": event.person or "", "type_id": _PERSON}
    if event.operator:
        document["actor"] = {"user": {"uid": event.operator, "type_id": _SYSTEM}}
    elif event.workload:
        document["actor"] = {"user": {"uid": event.workload, "type": "Service", "type_id": _OTHER_USER}}


def _entity(document: dict[str, Any], event: Event, own: dict[str, Any]) -> None:
    document["actor"] = _actor(event)
    document["entity"] = {"name": str(event.type), "type": str(event.type).partition(".")[0]}


def _application(document: dict[str, Any], event: Event, own: dict[str, Any]) -> None:
    document["app"] = {"name": event.service or own["source"], "version": own.get("policy_version", "")}


def _network(document: dict[str, Any], event: Event, own: dict[str, Any]) -> None:
    document["dst_endpoint"] = {"svc_name": event.service or own.get("pep") or own["source"]}


def _finding(document: dict[str, Any], event: Event, own: dict[str, Any]) -> None:
    document["status_id"] = _NEW
    document["finding_info"] = {"uid": event.id, "title": event.reason or str(event.type)}


def _scan(document: dict[str, Any], event: Event, own: dict[str, Any]) -> None:
    document["scan"] = {"name": str(event.details.get("scanner") or own["source"]), "type_id": 0}


def _event_log(document: dict[str, Any], event: Event, own: dict[str, Any]) -> None:
    document["log_name"] = "rempart"
    document["actor"] = _actor(event)


_CLASS_FIELDS: dict[int, Callable[[dict[str, Any], Event, dict[str, Any]], None]] = {
    Ocsf.API: _api,
    Ocsf.HTTP: _http,
    Ocsf.AUTHENTICATION: _authentication,
    Ocsf.ACCOUNT: _account,
    Ocsf.ENTITY: _entity,
    Ocsf.APPLICATION: _application,
    Ocsf.NETWORK: _network,
    Ocsf.FINDING: _finding,
    Ocsf.SCAN: _scan,
    Ocsf.EVENT_LOG: _event_log,
}
_WITHOUT_SOURCE = (Ocsf.APPLICATION, Ocsf.FINDING, Ocsf.SCAN)
_WITH_SOURCE = frozenset(int(uid) for uid in Ocsf if uid not in _WITHOUT_SOURCE)  # classes that have `src_endpoint`


def _cut(value: Any, depth: int = 0) -> Any:
    """The same with short, valid strings, numbers that JSON readers agree on, and at most 8 levels and 64 items."""
    if isinstance(value, str):
        text = value if len(value) <= _MAX_STRING else value[:_MAX_STRING] + "…"
        return str(text).encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else hex(value)[:_MAX_STRING]
    if depth == 8:
        return "…"
    if isinstance(value, Mapping):
        return {str(_cut(str(k))): _cut(v, depth + 1) for k, v in list(value.items())[:64]}
    if isinstance(value, list | tuple):
        return [_cut(item, depth + 1) for item in value[:64]]
    return _cut(str(value))
