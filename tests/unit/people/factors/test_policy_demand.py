"""The policy in docs/people.md that demands a second factor, evaluated as it stands."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from rempart.backends.regorus_engine import RegorusEngine
from rempart.policy.bundle import make
from rempart.policy.given import given_data
from rempart.policy.model import PolicyFile

DOCS = Path(__file__).resolve().parents[4] / "docs" / "people.md"
WALLET = {"spiffe_id": "spiffe://t/wallet", "routes": ["/wallet"], "calls": []}
NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("changed", "allowed"),
    [
        ({}, True),
        ({"amr": ["hwk", "user", "mfa"]}, True),
        ({"amr": ["pwd"]}, False),
        ({"auth_time": NOW - 1000}, False),
        ({"role": "user"}, False),
    ],
)
def test_a_factor_of_the_last_fifteen_minutes_is_demanded(changed: dict[str, Any], allowed: bool) -> None:
    found = re.search(r"```rego\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found
    bundle = make([PolicyFile("authz.rego", textwrap.dedent("  " + found[1].lstrip(" ")))], {}, "data.authz.decision")
    given = given_data({"trust_domain": "t", "gateway": "spiffe://t/g", "services": {"wallet": WALLET}}, {})
    evaluator = RegorusEngine().prepare(bundle, given, "rvm")
    jwt = {
        "sub": "usr_1",
        "role": "finance",
        "scope": "session",
        "amr": ["pwd", "otp", "mfa"],
        "auth_time": NOW - 60,
        **changed,
    }
    where = {"pep": "gateway", "service": "wallet", "method": "POST", "path": "/wallet", "segments": ["wallet"]}
    asked = {**where, "jwt": jwt, "spiffe_id": None, "context": {"now_ns": NOW * 10**9}}
    answer = json.loads(evaluator.evaluate(json.dumps(asked)))
    assert answer["allow"] is allowed
    assert allowed or answer["code"] == "insufficient_user_authentication"
