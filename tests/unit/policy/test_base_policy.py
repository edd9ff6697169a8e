"""What holds for every application, as a table, on both evaluators."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rempart.backends.regorus_engine import RegorusEngine
from rempart.policy.bundle import make
from rempart.policy.given import given_data
from rempart.policy.model import EvaluatorKind, PolicyFile
from rempart.policy.ports import Evaluator
from rempart.policy.verdict import read_verdict

GATEWAY = "spiffe://t/rempart/gateway"
WALLET = "spiffe://t/wallet"
DEPOSIT = "spiffe://t/deposit-agent"
CI = "spiffe://t/ci"
PROMETHEUS = "spiffe://t/prometheus"
GIVEN = {
    "trust_domain": "t",
    "gateway": GATEWAY,
    "roles": {
        "admin": {"permissions": [], "manages": ["*"]},
        "desk": {"permissions": [], "manages": ["user"]},
        "user": {"permissions": ["people:write"], "manages": []},
    },
    "services": {
        "wallet": {"spiffe_id": WALLET, "routes": ["/wallet"], "calls": ["people"]},
        "deposit-agent": {"spiffe_id": DEPOSIT, "routes": [], "calls": ["wallet"]},
        "ci": {"spiffe_id": CI, "routes": [], "calls": ["identity"]},
        "identity": {"spiffe_id": "spiffe://t/rempart/identity", "routes": ["/workloads"], "calls": []},
        "prometheus": {"spiffe_id": PROMETHEUS, "routes": [], "calls": ["observer"]},
        "people": {"spiffe_id": "spiffe://t/rempart/people", "routes": ["/login", "/auth"], "calls": []},
        "observer": {"spiffe_id": "spiffe://t/rempart/observer", "routes": ["/logs"], "calls": []},
    },
}
ALLOW_ALL = 'package authz\n\ndecision := {"allow": true, "rule": "app"}\n'
DENY_ALL = 'package authz\n\ndecision := {"allow": false, "rule": "app", "reason": "no"}\n'


def _evaluator(kind: EvaluatorKind, app: str, **unsafe: bool) -> Evaluator:
    bundle = make([PolicyFile("authz.rego", app)], {}, "data.authz.decision")
    return RegorusEngine().prepare(bundle, given_data(GIVEN, unsafe), kind)


@pytest.fixture(scope="module", params=["rvm", "interpreter"])
def permissive(request: pytest.FixtureRequest) -> Evaluator:
    return _evaluator(request.param, ALLOW_ALL)


@pytest.fixture(scope="module", params=["rvm", "interpreter"])
def strict(request: pytest.FixtureRequest) -> Evaluator:
    return _evaluator(request.param, DENY_ALL)


def _input(pep: str, service: str, request: str, peer: str | None, role: str | None) -> str:
    method, path = request.split(" ")
    document: dict[str, Any] = {
        "pep": pep,
        "service": service,
        "method": method,
        "path": path,
        "segments": [part for part in path.split("/") if part],
        "query": {},
        "jwt": {"sub": "u1", "role": role, "scope": "session"} if role else None,
        "spiffe_id": peer,
    }
    return json.dumps(document)


REFUSED_WHATEVER_THE_APP_SAYS = [
    ("gateway", "", "GET /nowhere", None, "admin", "no_such_route"),
    ("gateway", "people", "GET /accounts", None, "admin", "accounts_never_through_the_gateway"),
    ("gateway", "people", "GET /accounts/u1", None, "admin", "accounts_never_through_the_gateway"),
    ("gateway", "people", "GET /auth/admin/users", None, None, "administration_for_administrators"),
    ("gateway", "people", "GET /auth/admin/users", None, "user", "administration_for_administrators"),
    ("gateway", "people", "PATCH /auth/admin/users/u1", None, "emperor", "administration_for_administrators"),
    ("sidecar", "people", "DELETE /auth/admin/users/u1", GATEWAY, "user", "administration_for_administrators"),
    ("gateway", "people", "GET /login", None, None, "people_has_no_such_route"),
    ("gateway", "people", "POST /login/x", None, None, "people_has_no_such_route"),
    ("gateway", "people", "GET /", None, "admin", "people_has_no_such_route"),
    ("gateway", "observer", "GET /logs", None, None, "observer_for_auditors"),
    ("gateway", "observer", "GET /logs", None, "admin", "observer_for_auditors"),
    ("gateway", "observer", "POST /logs", None, "audit", "observer_is_read_only"),
    ("gateway", "observer", "DELETE /metrics", None, "audit", "observer_is_read_only"),
    ("gateway", "observer", "GET /metrics/x", None, "audit", "observer_has_no_such_route"),
    ("gateway", "observer", "GET /opa", None, "audit", "observer_has_no_such_route"),
    ("sidecar", "wallet", "GET /wallet", None, "user", "sidecar_without_peer"),
    ("sidecar", "wallet", "GET /wallet", "spiffe://t/rogue", "user", "peer_not_declared"),
    ("sidecar", "wallet", "GET /wallet", "spiffe://other/wallet", "user", "peer_not_declared"),
    ("sidecar", "wallet", "GET /wallet", WALLET, "user", "peer_not_declared"),
    ("sidecar", "people", "GET /accounts", DEPOSIT, "admin", "peer_not_declared"),
    ("sidecar", "people", "GET /accounts", GATEWAY, "admin", "accounts_never_through_the_gateway"),
    ("sidecar", "observer", "GET /logs", GATEWAY, "user", "observer_for_auditors"),
    ("sidecar", "observer", "POST /logs", PROMETHEUS, None, "observer_is_read_only"),
    ("gateway", "identity", "GET /entries", None, "admin", "entries_never_through_the_gateway"),
    ("sidecar", "identity", "POST /entries", GATEWAY, "admin", "entries_never_through_the_gateway"),
    ("sidecar", "identity", "POST /entries", WALLET, "admin", "peer_not_declared"),
    ("sidecar", "identity", "GET /other", CI, None, "entries_never_through_the_gateway"),
    ("gateway", "identity", "POST /workloads/keys", None, "admin", "entries_never_through_the_gateway"),
]
ALLOWED_WHATEVER_THE_APP_SAYS = [
    ("gateway", "people", "POST /login", None, None, "public_login"),
    ("gateway", "people", "GET /auth/jwks.json", None, None, "public_auth"),
    ("gateway", "people", "POST /auth/token", None, "user", "public_auth"),
    ("gateway", "people", "GET /auth/admin/users", None, "admin", "public_auth"),
    ("sidecar", "people", "POST /auth/admin/users", GATEWAY, "desk", "public_auth"),
    ("gateway", "people", "GET /auth/administration", None, None, "public_auth"),
    ("sidecar", "people", "POST /login", GATEWAY, None, "public_login"),
    ("sidecar", "people", "PATCH /accounts/u1", WALLET, "admin", "accounts_for_declared_callers"),
    ("gateway", "observer", "GET /logs", None, "audit", "auditor_reads"),
    ("gateway", "observer", "GET /opa/policies", None, "audit", "auditor_reads"),
    ("sidecar", "observer", "GET /metrics", GATEWAY, "audit", "auditor_reads"),
    ("sidecar", "observer", "GET /metrics", PROMETHEUS, None, "declared_workload_reads"),
    ("gateway", "identity", "GET /workloads/keys", None, None, "public_documents"),
    ("sidecar", "identity", "GET /workloads/bundle", GATEWAY, None, "public_documents"),
    ("sidecar", "identity", "POST /entries", CI, None, "declared_registrar"),
    ("sidecar", "identity", "DELETE /entries/x", CI, None, "declared_registrar"),
]
LEFT_TO_THE_APP = [
    ("gateway", "wallet", "GET /wallet", None, "user"),
    ("gateway", "wallet", "GET /wallet", None, None),
    ("sidecar", "wallet", "GET /wallet", GATEWAY, "user"),
    ("sidecar", "wallet", "POST /deposit", DEPOSIT, None),
]


@pytest.mark.parametrize(("pep", "service", "request_line", "peer", "role", "rule"), REFUSED_WHATEVER_THE_APP_SAYS)
def test_base_refusals_can_not_be_overridden(
    permissive: Evaluator, pep: str, service: str, request_line: str, peer: str | None, role: str | None, rule: str
) -> None:
    verdict = read_verdict(permissive.evaluate(_input(pep, service, request_line, peer, role)))
    assert (verdict.allow, verdict.rule) == (False, f"rempart.base.{rule}")
    assert verdict.status in (401, 403)
    assert verdict.code
    assert verdict.reason


@pytest.mark.parametrize("scope", ["openid email", "", None, "sessions", 7])
@pytest.mark.parametrize(("pep", "peer"), [("gateway", None), ("sidecar", GATEWAY), ("sidecar", DEPOSIT)])
def test_a_token_of_another_program_opens_no_service(
    permissive: Evaluator, pep: str, peer: str | None, scope: Any
) -> None:
    question = json.loads(_input(pep, "wallet", "GET /wallet", peer, "user"))
    assert read_verdict(permissive.evaluate(json.dumps(question))).allow
    question["jwt"]["scope"] = scope
    verdict = read_verdict(permissive.evaluate(json.dumps(question)))
    assert (verdict.allow, verdict.code, verdict.status) == (False, "insufficient_scope", 403)
    del question["jwt"]["scope"]
    assert not read_verdict(permissive.evaluate(json.dumps(question))).allow


@pytest.mark.parametrize("kind", ["rvm", "interpreter"])
def test_a_policy_that_reads_scopes_is_asked(kind: Any) -> None:
    bundle = make([PolicyFile("authz.rego", ALLOW_ALL)], {}, "data.authz.decision")
    evaluator = RegorusEngine().prepare(bundle, given_data({**GIVEN, "scoped_tokens": True}), kind)
    question = json.loads(_input("gateway", "wallet", "GET /wallet", None, "user"))
    question["jwt"]["scope"] = "read"
    assert read_verdict(evaluator.evaluate(json.dumps(question))).allow


@pytest.mark.parametrize("kind", ["rvm", "interpreter"])
@pytest.mark.parametrize(
    ("ip", "allowed"),
    [("10.1.2.3", True), ("2001:db8::7", True), ("192.0.2.1", False), ("", False), (None, False)],
)
def test_records_are_read_from_declared_networks_only(kind: Any, ip: str | None, allowed: bool) -> None:
    bundle = make([PolicyFile("authz.rego", ALLOW_ALL)], {}, "data.authz.decision")
    given = given_data({**GIVEN, "readers_from": ["10.0.0.0/8", "2001:db8::/32"]})
    evaluator = RegorusEngine().prepare(bundle, given, kind)
    question = json.loads(_input("gateway", "observer", "GET /logs", None, "audit"))
    if ip is not None:
        question["context"] = {"ip": ip}
    verdict = read_verdict(evaluator.evaluate(json.dumps(question)))
    assert verdict.allow is allowed
    assert verdict.code == ("" if allowed else "network_not_allowed")
    behind = _input("sidecar", "observer", "GET /logs", GATEWAY, "audit")  # the gateway has looked
    assert read_verdict(evaluator.evaluate(behind)).allow


@pytest.mark.parametrize(("pep", "service", "request_line", "peer", "role", "rule"), ALLOWED_WHATEVER_THE_APP_SAYS)
def test_platform_routes_are_base_policy_alone(
    strict: Evaluator, pep: str, service: str, request_line: str, peer: str | None, role: str | None, rule: str
) -> None:
    verdict = read_verdict(strict.evaluate(_input(pep, service, request_line, peer, role)))
    assert (verdict.allow, verdict.rule) == (True, f"rempart.base.{rule}")


@pytest.mark.parametrize(("pep", "service", "request_line", "peer", "role"), LEFT_TO_THE_APP)
def test_the_application_decides_its_own_routes(
    permissive: Evaluator,
    strict: Evaluator,
    pep: str,
    service: str,
    request_line: str,
    peer: str | None,
    role: str | None,
) -> None:
    question = _input(pep, service, request_line, peer, role)
    assert read_verdict(permissive.evaluate(question)).allow
    assert read_verdict(strict.evaluate(question)).rule == "app"


def test_the_unsafe_switch_lets_undeclared_peers_through() -> None:
    question = _input("sidecar", "wallet", "GET /wallet", "spiffe://t/rogue", "user")
    evaluator = _evaluator("rvm", ALLOW_ALL, **{"peer-allow-list": True})
    assert read_verdict(evaluator.evaluate(question)).allow
