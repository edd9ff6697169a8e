"""What a server believes of the events that an agent of another host tells."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.kernel.errors import BadInput, Denied, RempartError
from rempart.kernel.event import Event, EventType, Severity
from rempart.policy.record import Ruling
from rempart.policy.record import encode as encode_ruling
from rempart.protocols.ocsf import encode
from rempart.workloads.agents.host_record import MAX_EVENTS, read_recorded

AGENT = "spiffe://bank.example/rempart/agent/join_token/host-b"
SERVICES = frozenset({"wallet", "batch"})


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
    return read_recorded(AGENT, SERVICES, source, payloads)


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
        ("host-agent", told(EventType.HANDSHAKE_REFUSED, service="gateway"), "foreign_service"),
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
