"""What the PDP makes of headers and of a policy's answer, without sockets."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oauth_support import Prover

from rempart.crypto.jose import SigningKey
from rempart.kernel.clock import ManualClock
from rempart.policy.decide import EXPLANATIONS_PER_SECOND, Decider, Deciding, Point, Rules
from rempart.policy.model import EvaluatorKind
from rempart.policy.verdict import read_verdict

GATEWAY = Point("gateway", "gateway")
SIDECAR = Point("wallet", "sidecar", "wallet")
PEER = "spiffe://t/rempart/gateway"


class Says:
    """An evaluator that always gives the same answer, or fails."""

    kind: EvaluatorKind = "interpreter"
    fallbacks = 0

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    def evaluate(self, input_json: str) -> str:
        self.asked.append(json.loads(input_json))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return json.dumps(self.answer)


def _decider(answer: Any, explain: Any = lambda token, now: "why") -> tuple[Decider, Says]:
    says = Says(answer)
    routes = {"/wallet": "wallet", "/wallet/admin": "admin", "/login": "people"}
    rules = Rules("t", "i", "t", routes, PEER, requests_per_minute=600)
    return Decider(rules, Deciding(says, "v1"), ManualClock(), "pdp", explain), says


def _claims(**changes: Any) -> bytes:
    document = {
        "iss": "i",
        "aud": "t",
        "sub": "u1",
        "role": "user",
        "iat": 1_699_999_990,
        "exp": 1_700_000_600,
        **changes,
    }
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=")


def _ask(
    decider: Decider, headers: dict[bytes, bytes], point: Point = GATEWAY, url: bytes = b"/authz/wallet"
) -> tuple[bytes, dict[str, Any]]:
    response, payload = decider.decide(point, "GET", url, list(headers.items()))
    return response, json.loads(payload)["unmapped"]["rempart"]


ALLOW = {"allow": True, "rule": "r", "reason": "because"}


def test_the_input_is_the_documented_one() -> None:
    decider, says = _decider(ALLOW)
    headers = {
        b"x-rempart-claims": _claims(),
        b"x-rempart-peer": PEER.encode(),
        b"x-rempart-ip": b"192.0.2.7",
        b"x-request-id": b"req",
        b"origin": b"https://a.example",
        b"user-agent": b'curl/8 "\xff',
    }
    _ask(decider, headers, SIDECAR, b"/authz/wallet/a?x=1&x=2")
    [asked] = says.asked
    assert asked["pep"] == "sidecar"
    assert asked["service"] == "wallet"
    assert (asked["method"], asked["path"], asked["segments"]) == ("GET", "/wallet/a", ["wallet", "a"])
    assert asked["query"] == {"x": ["1", "2"]}
    assert asked["jwt"]["sub"] == "u1"
    assert asked["spiffe_id"] == PEER
    assert asked["request_id"] == "req"
    assert asked["context"] == {
        "time": "2023-11-14T22:13:20.000Z",
        "now_ns": 1_700_000_000_000_000_000,
        "ip": "192.0.2.7",
        "volume": {"last_minute": 1},
        "origin": "https://a.example",
        "token_age": 10,
        "user_agent": 'curl/8 "\ufffd',
    }


@pytest.mark.parametrize(
    ("path", "service"),
    [(b"/wallet", "wallet"), (b"/wallet/x", "wallet"), (b"/wallet/admin/x", "admin"), (b"/walletx", ""), (b"/", "")],
)
def test_the_longest_route_that_ends_at_a_segment_names_the_service(path: bytes, service: str) -> None:
    decider, says = _decider(ALLOW)
    _ask(decider, {}, url=b"/authz" + path)
    assert says.asked[0]["service"] == service


def test_at_the_gateway_no_peer_is_believed() -> None:
    decider, says = _decider(ALLOW)
    response, _ = _ask(decider, {b"x-rempart-peer": b"spiffe://t/wallet"})
    assert says.asked[0]["spiffe_id"] is None
    assert b"x-spiffe-id: \r\n" in response


@pytest.mark.parametrize("name", [b"x-rempart-claims", b"x-rempart-peer", b"authorization", b"x-rempart-ip"])
def test_a_header_that_comes_twice_is_refused(name: bytes) -> None:
    decider, _ = _decider(ALLOW)
    response, payload = decider.decide(GATEWAY, "GET", b"/authz/wallet", [(name, b"a"), (name, b"a")])
    assert response.startswith(b"HTTP/1.1 400")
    assert b"ambiguous_headers" in payload


@pytest.mark.parametrize("failure", [ValueError("x"), RecursionError(), KeyError("y"), MemoryError()])
def test_whatever_fails_inside_is_a_recorded_refusal(failure: Exception) -> None:
    decider, _ = _decider(failure)
    response, event = _ask(decider, {b"x-rempart-claims": _claims()})
    assert response.startswith(b"HTTP/1.1 503")
    assert (event["success"], event["code"], event["rule"]) == (False, "pdp_error", "pdp.error")


def test_without_a_policy_nothing_passes() -> None:
    decider, _ = _decider(ALLOW)
    decider.deciding = None
    response, event = _ask(decider, {b"x-rempart-claims": _claims()})
    assert response.startswith(b"HTTP/1.1 503")
    assert event["code"] == "no_policy"


def test_nobody_gets_401_and_somebody_403() -> None:
    decider, _ = _decider({"allow": False, "rule": "app", "reason": "no"})
    assert _ask(decider, {})[0].startswith(b"HTTP/1.1 401")
    assert _ask(decider, {b"x-rempart-claims": _claims()})[0].startswith(b"HTTP/1.1 403")


def test_basic_credentials_are_not_a_bearer_token() -> None:
    decider, _ = _decider(ALLOW)
    assert _ask(decider, {b"authorization": b"Basic abc"})[0].startswith(b"HTTP/1.1 200")
    assert _ask(decider, {b"authorization": b"bEaReR abc"})[0].startswith(b"HTTP/1.1 401")


def test_a_stale_token_does_not_keep_anyone_from_logging_in() -> None:
    decider, _ = _decider(ALLOW)
    response, event = _ask(decider, {b"authorization": b"Bearer abc"}, url=b"/authz/login")
    assert response.startswith(b"HTTP/1.1 200")
    assert event["details"]["token_failure"] == "why"


def test_a_token_that_is_bound_to_a_key_is_no_bearer_token() -> None:
    """RFC 9449 section 7.1; people's own endpoints see the proof and judge for themselves."""
    decider, says = _decider(ALLOW)
    bound = {b"x-rempart-claims": _claims(cnf={"jkt": "x"}), b"authorization": b"Bearer t.t.tA"}
    response, event = _ask(decider, bound)
    assert response.startswith(b"HTTP/1.1 401")
    assert says.asked == []
    assert event["rule"] == "pdp.invalid_token"
    assert _ask(decider, bound, url=b"/authz/login")[0].startswith(b"HTTP/1.1 200")
    assert says.asked[0]["jwt"] is None
    by_certificate = {**bound, b"x-rempart-claims": _claims(cnf={"x5t#S256": "x"})}
    assert _ask(decider, by_certificate)[0].startswith(b"HTTP/1.1 401")


KEY = SigningKey.generate("ES256")
ISSUER = "https://localhost:8443/auth"


def _proof(clock: ManualClock, **changes: Any) -> bytes:
    prover = Prover(clock, changes.pop("key", KEY))
    url = changes.pop("url", "https://localhost:8443/wallet")
    return prover.proof("GET", url, access_token=changes.pop("token", "t.t.tA"), **changes)["dpop"].encode()


def test_a_bound_token_passes_the_gateway_with_a_proof_of_its_key_once() -> None:
    clock, says = ManualClock(), Says(ALLOW)
    rules = Rules("t", ISSUER, "t", {"/wallet": "wallet"}, PEER, requests_per_minute=600)
    decider = Decider(rules, Deciding(says, "v1"), clock, "pdp", lambda token, now: "why")
    jkt = Prover(clock, KEY).jkt
    claims = _claims(iss=ISSUER, cnf={"jkt": jkt})

    def ask(proof: bytes | None, scheme: bytes = b"DPoP", claims: bytes = claims, point: Point = GATEWAY) -> bytes:
        headers = {b"x-rempart-claims": claims, b"authorization": scheme + b" t.t.tA", b"x-rempart-peer": PEER.encode()}
        return _ask(decider, headers | ({b"dpop": proof} if proof else {}), point, b"/authz/wallet?a=b")[0][9:12]

    once = _proof(clock)
    assert ask(once) == b"200"
    assert says.asked[-1]["jwt"]["cnf"] == {"jkt": jkt}
    stranger = SigningKey.generate("ES256")
    for refused in (
        ask(once),
        ask(None),
        ask(b"x"),
        ask(_proof(clock), scheme=b"Bearer"),
        ask(_proof(clock, key=stranger)),
        ask(_proof(clock, token="other")),
        ask(_proof(clock, url="https://localhost:8443/payments")),
        ask(_proof(clock, htm="POST")),
        ask(_proof(clock, iat=int(clock.now()) - 61)),
        ask(_proof(clock), claims=_claims(iss=ISSUER)),
    ):
        assert refused == b"401"
    clock.advance(30)
    assert ask(_proof(clock, iat=int(clock.now()) - 40)) == b"401"  # from before this process: maybe seen by the last
    assert ask(_proof(clock)) == b"200"
    assert ask(None, point=SIDECAR) == b"200"  # from the gateway, which has seen the proof
    headers = {b"x-rempart-claims": claims, b"authorization": b"DPoP t.t.tA", b"x-rempart-peer": b"spiffe://t/payment"}
    assert _ask(decider, headers, SIDECAR)[0].startswith(b"HTTP/1.1 401")


def test_a_flood_of_forged_tokens_is_explained_only_so_often() -> None:
    explained = []
    decider, _ = _decider(ALLOW, lambda token, now: explained.append(token) or "why")
    for _ in range(EXPLANATIONS_PER_SECOND + 20):
        assert _ask(decider, {b"authorization": b"Bearer abc"})[0].startswith(b"HTTP/1.1 401")
    assert len(explained) == EXPLANATIONS_PER_SECOND


@pytest.mark.parametrize(
    ("answer", "allow"),
    [
        (True, True),
        (False, False),
        (None, False),
        ({"allow": True}, True),
        ({"allow": "true"}, False),
        ({"allow": 1}, False),
        ({"allow": True, "deny": ["x"]}, False),
        ({"allow": True, "deny": []}, True),
        ({"allow": True, "deny": "x"}, False),
        ({}, False),
        ([], False),
        ("yes", False),
        (1, False),
    ],
)
def test_only_a_clear_yes_is_a_yes(answer: Any, allow: bool) -> None:
    verdict = read_verdict(json.dumps(answer))
    assert verdict.allow is allow
    assert verdict.allow or verdict.reason


@pytest.mark.parametrize("status", [200, 302, 500, 503, True, "403", None, 403.0])
def test_a_policy_can_not_choose_a_status_that_isnt_a_refusal(status: Any) -> None:
    decider, _ = _decider({"allow": False, "status": status, "code": "x\r\ny: z"})
    assert _ask(decider, {b"x-rempart-claims": _claims()})[0].startswith(b"HTTP/1.1 403 Forbidden\r\nx-rempart")


def test_a_trace_is_carried_on() -> None:
    given = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response, event = _ask(_decider(ALLOW)[0], {b"traceparent": given})
    assert b"\r\ntraceparent: " + given + b"\r\n" in response
    assert b"tracestate" not in response
    assert event["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"evil",
        b"00-zz-11-01",
        b"00-" + b"A" * 32 + b"-b7ad6b7169203331-01",
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01",
        b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-" + b"x" * 65,
    ],
)
def test_a_trace_begins_where_none_or_a_malformed_one_came(given: bytes | None) -> None:
    """W3C Trace Context section 3.2.2. What came as its state is emptied."""
    decider, _ = _decider(ALLOW)
    first, event = _ask(decider, {b"traceparent": given} if given else {})
    match = re.search(rb"\r\ntraceparent: 00-([0-9a-f]{32})-[0-9a-f]{16}-00\r\n", first)
    assert match
    assert event["trace_id"] == match[1].decode()
    assert match[1] not in _ask(decider, {})[0]
    assert (b"\r\ntracestate: \r\n" in first) is (given is not None)


_header = st.sampled_from(
    [
        b"x-rempart-claims",
        b"x-rempart-peer",
        b"authorization",
        b"x-request-id",
        b"traceparent",
        b"origin",
        b"user-agent",
    ]
)


@settings(max_examples=200)
@given(st.dictionaries(_header, st.binary(max_size=60)), st.binary(max_size=40), st.sampled_from([GATEWAY, SIDECAR]))
def test_any_headers_give_one_well_formed_answer_and_record(
    headers: dict[bytes, bytes], path: bytes, point: Point
) -> None:
    decider, _ = _decider(ALLOW)
    response, event = _ask(decider, headers, point, b"/authz/" + path)
    head, _, body = response.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in head.split(b"\r\n")[1:]]
    allowed = [b"x-rempart-decision", b"x-rempart-subject", b"x-rempart-role", b"x-spiffe-id", b"traceparent"]
    allowed += [b"tracestate"] if b"tracestate" in names else []
    allowed += [b"content-length"]
    refused = [b"x-rempart-decision", b"content-type", b"content-length"]
    assert names in (allowed, refused, [refused[0], b"www-authenticate", *refused[1:]])
    assert head.startswith(b"HTTP/1.1 200") == event["success"]
    assert not body or json.loads(body)["decision_id"] == event["id"]
