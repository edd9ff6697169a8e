"""`rempart policy` where nothing runs: what is checked, printed and how the command ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rempart.backends.rego_names import named_rules
from rempart.cli.main import main
from rempart.policy.model import PolicyFile

GOOD = """package authz

import rego.v1

decision := allowed("read", "anyone reads") if {
	input.method == "GET"
} else := {"allow": false, "rule": "nobody_writes", "reason": "only reading is allowed"}

allowed(rule, reason) := {"allow": true, "rule": rule, "reason": reason}
"""
TESTS = """package authz_test

import rego.v1

test_read if data.authz.decision.allow with input as {"method": "GET"}

test_write if not data.authz.decision.allow with input as {"method": "PUT"}
"""
READ = {"pep": "gateway", "service": "app", "method": "GET", "path": "/x", "segments": ["x"], "jwt": None}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    directory = tmp_path / "policy"
    directory.mkdir()
    (directory / "authz.rego").write_text(GOOD)
    (directory / "authz_test.rego").write_text(TESTS)
    return directory


def rempart(tmp_path: Path, *arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["policy", *map(str, arguments), "--state", str(tmp_path / "nothing-runs")])
    return int(ended.value.code or 0)


def test_good_policy(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rempart(tmp_path, "test", policy) == 0
    printed = capsys.readouterr()
    assert "authz_test.test_read" in printed.out
    assert "2 of 2 passed" in printed.err
    assert rempart(tmp_path, "check", policy) == 0
    assert "is good" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["test", "check"])
def test_failing_test_is_a_no(command: str, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (policy / "no_test.rego").write_text("package no_test\n\nimport rego.v1\n\ntest_no if 1 == 2\n")
    assert rempart(tmp_path, command, policy) == 1
    printed = capsys.readouterr()
    assert "no_test.test_no" in printed.out + printed.err


@pytest.mark.parametrize("command", ["test", "check"])
@pytest.mark.parametrize(
    ("text", "place", "shown"),
    [
        ("package authz\n\ndecision := true if {\n\tinput.x ==\n}\n", ":5:1", "}"),
        ("package authz\n\ndecision := nosuch(1)\n", ":3:13", "decision := nosuch(1)"),
        ("package authz\n\ndecision := http.send({})\n", ":3:13", "may not use the network"),
    ],
)
def test_fault_names_its_place(
    command: str, text: str, place: str, shown: str, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (policy / "authz.rego").write_text(text)
    assert rempart(tmp_path, command, policy) == 2
    said = capsys.readouterr().err
    assert f"{policy}/authz.rego{place}: " in said
    assert shown in said
    assert "→ correct it" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("command", ["test", "check"])
def test_one_json_document(command: str, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rempart(tmp_path, command, policy, "--json") == 0
    good = json.loads(capsys.readouterr().out)
    assert good["ok"] is True
    assert len(good["tests"]) == 2
    (policy / "authz.rego").write_text("package authz\n\ndecision := {\n")
    assert rempart(tmp_path, command, policy, "--json") == 2
    bad = json.loads(capsys.readouterr().out)
    assert bad["ok"] is False
    assert bad["faults"][0]["file"] == "authz.rego"
    assert bad["faults"][0]["line"] > 0


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda directory: (directory / "data.json").write_text('{"a": 1,}'), "bad_policy_data"),
        (lambda directory: (directory / "authz.rego").write_bytes(b"\xff"), "bad_policy_directory"),
        (lambda directory: (directory / "authz.rego").unlink(), "no_policy"),
    ],
)
def test_unreadable_policy(
    spoil: object, code: str, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(policy)  # type: ignore[operator]  # one of the functions above
    assert rempart(tmp_path, "check", policy) == 2
    said = capsys.readouterr().err
    assert f"[{code}]" in said
    assert "→" in said


def test_unknown_entrypoint(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rempart(tmp_path, "check", policy, "--entrypoint", "data.other.rule") == 2
    assert "data.other.rule" in capsys.readouterr().err


def test_eval_asks_a_directory(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "input.json"
    file.write_text(json.dumps({"input": {**READ, "service": "people", "path": "/login", "method": "POST"}}))
    assert rempart(tmp_path, "eval", file, "--dir", policy, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["allow"], answer["rule"]) == (True, "rempart.base.public_login")
    file.write_text(json.dumps(READ))
    assert rempart(tmp_path, "eval", file, "--dir", policy) == 1
    assert "no_such_route" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["[1]", '{"a":', '{"a":1,"a":2}', ""])
def test_eval_refuses_what_is_no_input(
    text: str, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "input.json"
    file.write_text(text)
    assert rempart(tmp_path, "eval", file, "--dir", policy) == 2
    assert str(file) in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["explain", "dec_x"], ["unused"], ["reload"], ["replay", "POLICY"]])
def test_nothing_runs(arguments: list[str], policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(policy) if word == "POLICY" else word for word in arguments]
    assert rempart(tmp_path, *words) == 3
    assert "[not_running]" in capsys.readouterr().err


def test_bad_usage(policy: Path, tmp_path: Path) -> None:
    assert rempart(tmp_path, "replay", policy, "--limit", "0") == 2
    assert rempart(tmp_path, "explain", "../../etc") == 2
    assert rempart(tmp_path, "nosuch") == 2


def test_names_of_rules_are_read_off_objects_and_calls() -> None:
    found = named_rules([PolicyFile("authz.rego", GOOD)])
    assert [(rule.name, rule.line) for rule in found] == [("read", 5), ("nobody_writes", 7)]


def test_names_put_together_at_run_time_stay_unknown() -> None:
    text = 'package authz\n\ndecision := {"allow": true, "rule": concat(".", ["a", input.method])}\n'
    assert named_rules([PolicyFile("authz.rego", text)]) == []
