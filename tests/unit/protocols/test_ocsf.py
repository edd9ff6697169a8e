"""Events as OCSF."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.kernel.errors import BadInput
from rempart.kernel.event import Event, EventType, Severity
from rempart.protocols.ocsf import CLASSES, MAX_BYTES, decode_summary, encode

ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
    max_leaves=12,
)


def event(**fields: Any) -> Event:
    return Event(**{"type": EventType.DECISION, "at": 1_700_000_000.25, "success": True, "id": "dec_1", **fields})


def test_a_decision_is_api_activity_with_its_policy() -> None:
    details = {"rule": "wallet.owner", "policy_version": "v1", "method": "POST", "path": "/payments", "input": {"a": 1}}
    made = encode(event(person="usr_1", request_id="r1", ip="10.0.0.1", service="wallet", details=details), "pdp")
    assert b"\n" not in made
    document = json.loads(made)
    assert (document["class_uid"], document["activity_id"], document["type_uid"]) == (6003, 1, 600301)
    assert document["metadata"]["uid"] == "dec_1"
    assert document["time"] == 1_700_000_000_250
    assert document["api"] == {"operation": "POST /payments", "service": {"name": "wallet"}}
    assert document["actor"]["user"]["uid"] == "usr_1"
    assert document["actor"]["authorizations"][0] == {
        "decision": "allow",
        "policy": {"name": "wallet.owner", "version": "v1"},
    }
    own = document["unmapped"]["rempart"]
    assert own["details"] == {"input": {"a": 1}}
    assert (own["source"], own["rule"], own["policy_version"]) == ("pdp", "wallet.owner", "v1")


@pytest.mark.parametrize("kind", list(EventType))
def test_every_type_has_a_class_and_comes_back(kind: EventType) -> None:
    full = event(
        type=kind,
        person="usr_1",
        role="user",
        workload="spiffe://bank.example/wallet",
        operator="uid:0",
        ip="::1",
        service="wallet",
        request_id="r",
        trace_id="t",
        before={"role": "user"},
        after={"role": "admin"},
        severity=Severity.HIGH,
        reason="because",
        details={"rule": "x", "pid": 7},
    )
    document = json.loads(encode(full, "people"))
    class_uid, _ = CLASSES[kind]
    assert document["class_uid"] == class_uid
    assert document["category_uid"] == class_uid // 1000
    summary = decode_summary(encode(full, "people"))
    assert (summary.id, summary.type, summary.source, summary.person) == ("dec_1", kind, "people", "usr_1")
    assert (summary.reason, summary.rule, summary.severity) == ("because", "x", "high")
    assert document["unmapped"]["rempart"]["after"] == {"role": "admin"}


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(), ANYTHING, max_size=4), ANYTHING, st.text(st.characters(exclude_categories=())))
def test_nothing_that_an_outsider_sends_keeps_an_event_from_being_recorded(
    details: dict[str, Any], path: Any, reason: str
) -> None:
    for kind in (EventType.DECISION, EventType.REQUEST_REFUSED):
        made = encode(event(type=kind, reason=reason, details={**details, "path": path, "method": path}), "pdp")
        assert len(made) <= MAX_BYTES
        assert decode_summary(made).id == "dec_1"
        json.loads(made)


@pytest.mark.parametrize(
    "details",
    [
        {"path": "x" * 200_000},
        {"input": ["y" * 2000] * 1000},
        {str(n): "z" * 900 for n in range(300)},
        {"deep": MappingProxyType({"a": MappingProxyType({"b": "x" * 100_000})})},
    ],
)
def test_an_event_that_is_too_long_is_cut_and_says_so(details: dict[str, Any]) -> None:
    made = encode(event(details=details, before=details, after=details), "pdp")
    assert len(made) <= MAX_BYTES
    assert json.loads(made)["unmapped"]["rempart"]["truncated"] is True


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff", b'{"unmapped":{"rempart":{"id":1}}}', b"[" * 100_000])
def test_what_is_no_event_is_refused(raw: bytes) -> None:
    with pytest.raises(BadInput):
        decode_summary(raw)
