"""What a server believes of the events that an agent of another host tells."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.audit.intake import TYPES, read_events
from rempart.kernel.errors import BadInput, Denied, RempartError
from rempart.kernel.event import Event, EventType, Severity
from rempart.policy.record import Ruling
from rempart.policy.record import encode as encode_ruling
from rempart.protocols.ocsf import HOISTED, encode
from rempart.workloads.agents.host_record import AHEAD, MAX_EVENTS, read_recorded

AGENT = "spiffe://bank.example/rempart/agent/join_token/host-b"
SERVICES = frozenset({"wallet", "batch"})
NOW = 1795273600.0


def ruling(**more: Any) -> Ruling:
    given: dict[str, Any] = {
        "id": "dec_01m7zbvcz694vyyxdh21mah0dk",
        "at": 1795273542.404,
        "pep": "wallet",
        "allow": False,
        "rule": "authz.role_needed",
        "reason": "this role may not do that",
        "policy_version": "ae4276e2f0b2",
        "method": "POST",
        "path": "/deposit",
        "quoted_path": json.dumps("/deposit"),
        "service": "wallet",
        "code": "role_not_allowed",
        "status": 403,
        "person": "usr_1",
        "workload": "spiffe://bank.example/rempart/gateway",
        "input_json": json.dumps({"pep": "sidecar", "service": "wallet"}),
        **more,
    }
    return Ruling(**given)


def told(kind: EventType, **more: Any) -> bytes:
    given: dict[str, Any] = {"type": kind, "at": 1795273542.0, "success": True, **more}
    return encode(Event(**given), "whoever")


def read(source: str, *payloads: bytes) -> list[Event]:
    return read_recorded(AGENT, SERVICES, source, payloads, NOW)


def test_a_decision_is_kept_as_it_was_made_and_marked_as_the_agents() -> None:
    payload = encode_ruling(ruling(), "pdp")
    (event,) = read("pdp", payload)
    again = json.loads(encode(event, "pdp@join_token/host-b"))["unmapped"]["rempart"]
    first = json.loads(payload)["unmapped"]["rempart"]
    assert again.pop("source") == "pdp@join_token/host-b"
    assert again["details"].pop("agent") == AGENT
    del first["source"]
    assert again == first


@pytest.mark.parametrize(
    ("source", "payload", "code"),
    [
        ("pdp", encode_ruling(ruling(service="payment"), "pdp"), "foreign_service"),
        ("pdp", encode_ruling(ruling(pep="gateway"), "pdp"), "foreign_service"),
        ("pdp", encode_ruling(ruling(id="evt_1"), "pdp"), "bad_event"),
        ("pdp", told(EventType.MONEY_MOVED, service="wallet"), "bad_event"),
        ("host-agent", told(EventType.MONEY_MOVED, service="payment"), "foreign_service"),
        ("host-agent", told(EventType.MONEY_MOVED), "foreign_service"),
        ("host-agent", told(EventType.HANDSHAKE_REFUSED, service="gateway"), "foreign_service"),
        ("host-agent", told(EventType.HANDSHAKE_REFUSED), "foreign_service"),
        ("host-agent", told(EventType.HANDSHAKE_REFUSED, details={"pep": ["wallet"]}), "foreign_service"),
        ("host-agent", told(EventType.APPLICATION, service="wallet", id="dec_1"), "bad_event"),
        ("host-agent", told(EventType.APPLICATION, service="wallet", id="alr_1"), "bad_event"),
        ("host-agent", encode_ruling(ruling(), "pdp"), "bad_event"),
        ("host-agent", told(EventType.LOGIN), "bad_event"),
        ("supervisor", told(EventType.ACCOUNT_CHANGED), "bad_event"),
        ("sequencer", told(EventType.ALARM), "bad_event"),
        ("identity", told(EventType.SVID_ISSUED), "bad_event"),
        ("pdp", b"{}", "bad_event"),
    ],
)
def test_what_cannot_have_happened_there_is_refused_whole(source: str, payload: bytes, code: str) -> None:
    with pytest.raises((BadInput, Denied)) as refused:
        read(source, payload)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "details",
    [{"code": 42}, {"pep": "gateway"}, {"pep": {"a": 1}}, {"policy_version": 3.5}, {"status": []}, {"rule": 1}],
)
def test_whatever_an_application_says_of_its_own_event_is_taken(details: dict[str, Any]) -> None:
    """Else a service could stop the record of its whole host: nothing behind its event would be told."""
    payload = told(EventType.APPLICATION, service="wallet", details=details)
    (event,) = read("host-agent", payload)
    again = json.loads(encode(event, "x"))["unmapped"]["rempart"]
    name = next(iter(details))
    assert again[name] == json.loads(payload)["unmapped"]["rempart"][name]


def test_no_host_is_ahead_of_our_time() -> None:
    late, ahead, far = (told(EventType.ALARM, at=NOW + more) for more in (-9e8, AHEAD / 2, 9e9))
    events = read("host-agent", late, ahead, far)
    assert [event.at - NOW for event in events] == [-9e8, AHEAD / 2, AHEAD]
    assert [event.details.get("told_at") for event in events] == [None, None, NOW + 9e9]


def test_one_that_is_refused_takes_all_with_it() -> None:
    with pytest.raises(Denied):
        read("pdp", encode_ruling(ruling(), "pdp"), encode_ruling(ruling(service="users"), "pdp"))


def test_an_agent_can_say_neither_its_name_nor_more_than_its_share() -> None:
    lying = told(EventType.ALARM, severity=Severity.HIGH, details={"agent": "spiffe://bank.example/other"})
    assert read("host-agent", lying)[0].details["agent"] == AGENT
    with pytest.raises(BadInput):
        read("host-agent", *[lying] * (MAX_EVENTS + 1))


@settings(max_examples=200)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner))
)
def test_nonsense_is_refused_and_nothing_else_happens(value: Any) -> None:
    for document in (value, {"unmapped": {"rempart": value}}):
        with pytest.raises(RempartError):
            read("pdp", json.dumps(document).encode())


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200)
@given(
    details=st.dictionaries(st.sampled_from([*HOISTED, "agent", "sealed", "amount"]), _ANYTHING),
    before=st.none() | st.dictionaries(st.text(max_size=10), _ANYTHING, max_size=4),
    at=st.floats(min_value=0, max_value=253_402_300_800, exclude_max=True),
    kind=st.sampled_from(sorted(TYPES)),
)
def test_no_application_can_say_what_keeps_its_hosts_events_from_the_record(
    details: dict[str, Any], before: dict[str, Any] | None, at: float, kind: EventType
) -> None:
    """An agent tells its host's events in order: one that were refused here would hold up all that come after it."""
    one = {"id": "e-1", "type": kind, "at": at, "success": True, "details": details, "before": before}
    body = msgspec.json.encode({"events": [one]})
    try:
        events = read_events(body, "wallet")
    except BadInput:
        return  # the application itself is told
    for event in events:
        (kept,) = read("host-agent", encode(event, "host-agent"))
        assert (kept.id, kept.type, kept.service, kept.details["agent"]) == ("e-1", kind, "wallet", AGENT)


@pytest.mark.parametrize("depth", [5, 50, 400, 900, 1500])
def test_nor_by_how_deep_it_is_nested(depth: int) -> None:
    details = b'{"a":' * depth + b"1" + b"}" * depth
    body = b'{"events":[{"id":"e-1","type":"application","at":1,"success":true,"details":%s}]}' % details
    try:
        events = read_events(body, "wallet")
    except BadInput:
        return
    assert read("host-agent", *[encode(event, "host-agent") for event in events])
