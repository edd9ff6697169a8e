"""What every policy engine must do: inspect, refuse what isn't Rego's, answer alike on both evaluators, fail closed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rempart.backends.regorus_engine import RegorusEngine
from rempart.backends.regorus_trial import RegorusTrial
from rempart.kernel.errors import Unavailable
from rempart.policy.bundle import builtin, make
from rempart.policy.given import given_data
from rempart.policy.model import Bundle, PolicyFile, Report
from rempart.policy.ports import PolicyEngine

GIVEN = given_data(
    {
        "trust_domain": "t",
        "gateway": "spiffe://t/g",
        "services": {"wallet": {"spiffe_id": "spiffe://t/wallet", "calls": []}},
    }
)
HEAD = "package authz\n\nimport rego.v1\n\n"
DECISION = 'decision := {"allow": true, "rule": "r"} if input.jwt.sub\n'


@pytest.fixture(params=[RegorusEngine])
def engine(request: pytest.FixtureRequest) -> PolicyEngine:
    made: PolicyEngine = request.param()
    return made


def _bundle(policy: str, test: str = "", data: dict[str, Any] | None = None) -> Bundle:
    files = [PolicyFile("authz.rego", HEAD + policy)]
    if test:
        files.append(
            PolicyFile("authz_test.rego", "package authz_test\n\nimport rego.v1\n\nimport data.authz\n\n" + test)
        )
    return make(files, data or {}, "data.authz.decision")


def _question(**changes: Any) -> str:
    return json.dumps(
        {"pep": "gateway", "service": "wallet", "jwt": {"sub": "u", "scope": "session"}, "spiffe_id": None, **changes}
    )


def test_the_built_in_policy_is_good_and_fast(engine: PolicyEngine) -> None:
    report = engine.inspect(builtin(), GIVEN)
    assert report.ok, report.summary()
    assert report.evaluator == "rvm"
    assert report.tests


@pytest.mark.parametrize("kind", ["rvm", "interpreter"])
def test_answers(engine: PolicyEngine, kind: Any) -> None:
    evaluator = engine.prepare(_bundle(DECISION), GIVEN, kind)
    assert json.loads(evaluator.evaluate(_question())) == {"allow": True, "rule": "r"}
    assert evaluator.evaluate(_question(jwt=None)) == "null"


@pytest.mark.parametrize("kind", ["rvm", "interpreter"])
@pytest.mark.parametrize("question", ["{", "", "[" * 500, '{"a":"\\ud800"}'])
def test_input_that_is_no_json_is_a_failure_not_a_crash(engine: PolicyEngine, kind: Any, question: str) -> None:
    evaluator = engine.prepare(_bundle(DECISION), GIVEN, kind)
    with pytest.raises(Unavailable) as raised:
        evaluator.evaluate(question)
    assert raised.value.code == "policy_error"
    assert json.loads(evaluator.evaluate(_question())) == {"allow": True, "rule": "r"}


def test_beyond_the_limit_of_the_rvm_the_interpreter_answers(engine: PolicyEngine) -> None:
    heavy = 'decision := {"allow": true} if { every i in numbers.range(1, input.n) { i > 0 } }\n'
    evaluator = engine.prepare(_bundle(heavy), GIVEN, "rvm")
    assert json.loads(evaluator.evaluate(_question(n=10))) == {"allow": True}
    assert evaluator.fallbacks == 0
    assert json.loads(evaluator.evaluate(_question(n=50_000))) == {"allow": True}
    assert evaluator.fallbacks == 1


@pytest.mark.parametrize(
    ("policy", "line", "said"),
    [
        ("decision := {", 5, "expecting"),
        (DECISION + "x := foo.bar(1)\n", 6, "unknown function foo.bar"),
        (DECISION + "x if io.jwt.decode_verify(input.t, {})\n", 6, "unknown function io.jwt.decode_verify"),
        (DECISION + 'x := crypto.sha256("a")\n', 6, "unknown function crypto.sha256"),
        (DECISION + "x if some_helper(1)\n", 6, "unknown function some_helper"),
        (DECISION + 'x if http.send({"url": "http://a", "method": "GET"})\n', 6, "network"),
        (DECISION + "x := time.now_ns()\n", 6, "input.context.now_ns"),
        (DECISION + "x := {y | some y in input.z; nope.nope(y)}\n", 6, "unknown function nope.nope"),
        (DECISION + "f(x) := g(x)\n\ng(x) := f(x)\n", 6, "depends on itself"),
        (DECISION + "x if y\n\ny if x\n", 6, "depends on itself"),
        (DECISION + "x if data.authz[input.k]\n", 6, "depends on itself"),
        ("other := 1\n", 1, "no rule data.authz.decision"),
    ],
)
def test_refused_with_the_place(engine: PolicyEngine, policy: str, line: int, said: str) -> None:
    report = engine.inspect(_bundle(policy), GIVEN)
    assert not report.ok
    assert report.faults[0].file == "authz.rego"
    assert report.faults[0].line == line
    assert said in report.faults[0].message


def test_an_application_can_not_touch_the_base_rules(engine: PolicyEngine) -> None:
    intruder = PolicyFile("x.rego", 'package rempart.base\n\ndecision := {"allow": true}\n')
    report = engine.inspect(
        make([PolicyFile("authz.rego", HEAD + DECISION), intruder], {}, "data.authz.decision"), GIVEN
    )
    assert [fault.file for fault in report.faults] == ["x.rego"]


@pytest.mark.parametrize(
    "policy",
    [
        'decision := {"allow": true} if input.a == 1\n\ndecision := {"allow": false} if input.b == 1\n',
        'decision := {"allow": v} if some v in input.l\n',
        'decision := {"allow": input.l[_]}\n',
        'decision := {"allow": f(1)}\n\nf(x) := true if x == 1\n\nf(x) := false if x == 2\n',
        'decision := {"allow": f(input.l)}\n\nf(l) := v if some v in l\n',
        'decision := {"allow": f(1)}\n\ndefault f(_) := true\n\nf(x) := false if x == 2\n',
        'decision := {"allow": o.a}\n\no[k] := v if some k, v in input.o\n',
        'decision := {"allow": x} if x := p with input as {"q": true}\n\np := input.q\n',
    ],
)
def test_what_only_the_interpreter_answers_rightly_is_left_to_it(engine: PolicyEngine, policy: str) -> None:
    report = engine.inspect(_bundle(policy), GIVEN)
    assert report.ok, report.summary()
    assert report.evaluator == "interpreter"
    assert report.why


@pytest.mark.parametrize(
    "policy",
    [
        'decision := {"allow": ok, "deny": [r | some r in deny]}\n\ndefault ok := false\n\nok if count(deny) == 0\n\n'
        'deny contains "a" if input.a\n',
        'decision := {"allow": true} if { some v in input.l; v == 1 }\n',
        'decision := {"allow": x} if { x := count([v | some v in input.l]) }\n',
        'decision := {"allow": true} if input.a else := {"allow": false} if input.b\n',
        'decision := {"allow": own}\n\nown if input.a\n\nown if input.b\n',
    ],
)
def test_what_both_answer_alike_runs_on_the_rvm(engine: PolicyEngine, policy: str) -> None:
    report = engine.inspect(_bundle(policy), GIVEN)
    assert report.ok, report.summary()
    assert report.evaluator == "rvm", report.why


def test_tests_run_and_their_inputs_are_asked_of_both(engine: PolicyEngine) -> None:
    test = """test_one if authz.decision.allow with input as {"jwt": {"sub": "u", "scope": "session"}, "a": "x"}

test_many if {
	every name in ["a", "b"] { authz.decision.allow with input as ({"jwt": {"sub": name}}) }
}

test_part if authz.decision.allow with input.jwt as {"sub": "x"} with data.k as "y"

test_wrong if not authz.decision with input as {"jwt": {"sub": "u", "scope": "session"}}
"""
    report = engine.inspect(_bundle(DECISION, test), GIVEN)
    assert {t.name.rpartition(".")[2]: t.passed for t in report.tests} == {
        "test_one": True,
        "test_many": True,
        "test_part": True,
        "test_wrong": False,
    }
    assert not report.ok
    assert report.inputs_compared == 5


def test_a_policy_on_which_the_evaluators_differ_is_refused(
    engine: PolicyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blind the analysis: then only the comparison stands between these policies and the RVM.
    monkeypatch.setattr("rempart.backends.rego_syntax.why_not_rvm", lambda rules: "")
    policy = (
        'decision := {"allow": true} if f(input.a) else := {"allow": false}\n\ndefault f(_) := true\n\nf(1) := false\n'
    )
    test = 'test_x if authz.decision.allow with input as {"a": 2}\n'
    report = engine.inspect(_bundle(policy, test), GIVEN)
    assert "by the RVM" in report.summary()
    assert report.faults[0].file == "authz_test.rego"


def test_where_only_the_interpreter_sees_a_conflict_it_decides(
    engine: PolicyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rempart.backends.rego_syntax.why_not_rvm", lambda rules: "")
    policy = 'decision := {"allow": v} if some v in input.l\n'
    test = 'test_x if not broken\n\nbroken if authz.decision.allow with input as {"l": []}\n'
    test += '\ntest_y if authz.decision.allow with input as {"l": [false, true]}\n'
    report = engine.inspect(_bundle(policy, test), GIVEN)
    assert report.evaluator == "interpreter"
    assert "interpreter fails" in report.why


def test_a_trial_outlives_what_it_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = DECISION + "x := " + "[" * 4000 + "]" * 4000 + "\n"  # the parser takes exponential time
    monkeypatch.setattr("rempart.backends.regorus_trial.SECONDS", 1)
    report: Report = RegorusTrial().run_now(_bundle(deep), GIVEN)
    assert not report.ok
    assert "more than" in report.summary() or "crashed" in report.summary() or "nested" in report.summary()


def test_the_benchmark_policy_runs_on_the_rvm(engine: PolicyEngine) -> None:
    rego = Path("benchmarks/data/authz.rego")
    if not rego.exists():
        pytest.skip("benchmarks/data is not here")
    bundle = make([PolicyFile("authz.rego", rego.read_text())], {}, "data.gate.authz.decision")
    report = engine.inspect(bundle, GIVEN)
    assert report.evaluator == "rvm", report.why
