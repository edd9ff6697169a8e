"""`rempart policy` as an operator uses it on the running bank."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import httpx
import pytest
from tests.integration.conftest import BANK, Running
from tests.support import eventually

POLICY = str(BANK / "policy")


@pytest.fixture(scope="module")
def refused(bank: Running) -> str:
    """The decision that refused one person the wallet of another."""
    with httpx.Client(base_url=bank.url, verify=ssl.create_default_context(cafile=bank.ca), timeout=10) as client:
        answer = client.get(
            "/wallet",
            params={"user_id": bank.account("user", 1)["user_id"]},
            headers={"authorization": f"Bearer {bank.token('user')}"},
        )
    assert answer.status_code == 403
    decision = answer.headers["x-rempart-decision"]
    eventually(lambda: bank.run("policy", "explain", decision).returncode == 0, within=15)
    return decision


def test_explain_names_rule_version_and_input(bank: Running, refused: str) -> None:
    told = json.loads(bank.run("policy", "explain", refused, "--json").stdout)
    assert (told["allow"], told["rule"], told["code"]) == (False, "wallet.not_own", "not_your_wallet")
    assert told["input"]["query"]["user_id"] == bank.account("user", 1)["user_id"]
    assert told["policy_version"] == told["now"]["policy_version"]
    assert "wallet.not_own" in bank.run("policy", "explain", refused).stdout


def test_same_input_asked_again(bank: Running, refused: str, tmp_path: Path) -> None:
    question = tmp_path / "input.json"
    question.write_text(json.dumps(json.loads(bank.run("policy", "explain", refused, "--json").stdout)["input"]))
    for where in ([], ["--dir", POLICY]):
        asked = bank.run("policy", "eval", str(question), *where, "--json")
        assert asked.returncode == 1, asked.stderr
        assert json.loads(asked.stdout)["rule"] == "wallet.not_own"


def test_replay_of_the_same_policy_changes_nothing(bank: Running, refused: str) -> None:
    same = bank.run("policy", "replay", POLICY, "--json")
    assert same.returncode == 0, same.stderr
    document = json.loads(same.stdout)
    assert document["replayed"] > 0
    assert document["changes"] == []


def test_replay_of_a_generous_policy_tells_whom_it_lets_in(bank: Running, refused: str, tmp_path: Path) -> None:
    (tmp_path / "authz.rego").write_text('package authz\n\ndecision := {"allow": true, "rule": "all", "reason": "x"}\n')
    other = bank.run("policy", "replay", str(tmp_path), "--json")
    assert other.returncode == 1, other.stderr
    change = next(one for one in json.loads(other.stdout)["changes"] if one["id"] == refused)
    assert (change["was"], change["would_be"], change["request"]) == ("deny", "allow", "GET /wallet")


def test_unused_leaves_out_what_decided(bank: Running, refused: str) -> None:
    document = json.loads(bank.run("policy", "unused", "--json").stdout)
    silent = {one["rule"] for one in document["unused"]}
    assert "wallet.not_own" not in silent
    assert document["named"] > len(silent)


def test_reload_test_and_check(bank: Running) -> None:
    assert json.loads(bank.run("policy", "reload", "--json").stdout)["source"] == "directory"
    assert bank.run("policy", "test", POLICY).returncode == 0
    assert "the RVM" in bank.run("policy", "check", POLICY).stderr


def test_unknown_decision(bank: Running) -> None:
    unknown = bank.run("policy", "explain", "dec_00000000000000000000000000")
    assert unknown.returncode == 1
    assert "Traceback" not in unknown.stderr
