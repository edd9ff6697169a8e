"""Where the RVM by itself would go on after something undefined, it is made to fail as Rego does (found by comparing
random policies on both evaluators and OPA)."""

import json

import pytest

from rempart.backends import rego_guards
from rempart.backends.rego_edits import Edit, applied
from rempart.backends.regorus_engine import Interpreter, RegorusEngine, Rvm
from rempart.policy import bundle as bundles
from rempart.policy.model import PolicyFile

_DATA = {"q": {"a": 1, "l": [1, 2], "f": False, "n": None, "limits": {"user": 5}}}
_INPUT = {"p": "c", "v": "/", "f": False, "roles": ["user", "ghost"], "l": [{"n": "a"}, {"m": 1}, {"n": "ab"}]}
_MORE = """
missing if { input.p == "zz" }

f(v) := 3 if { v == 2 }

h(v) if { not v }
"""
_BODIES = [
    "b := data.q.zz",
    "b := data.q.zz; not b.disabled",
    "b := data.q.zz; not b",
    "b := data.q.zz; b != 1",
    "b := data.q.zz; c := [b]",
    "b := input.zz.y",
    "b := input.f",
    "b := input.f; not b",
    "b := data.q.n",
    "b := missing",
    "b := missing; not b",
    "c := missing; b := c",
    "b := f(1)",
    "b := f(2)",
    "b := upper(data.q.zz)",
    "b := data.q.zz + 1",
    "b := data.q.zz == 1",
    "b := data.q.zz == data.q.zz",
    'c := {"a": data.q.zz}',
    'c := {"a": {"b": data.q.zz}}',
    "c := [1, data.q.zz]",
    'b := object.get(data.q, "zz", data.q.zz)',
    "b := data.q.l[7]",
    'b := data.q.l["a"]',
    "b := [r | r := data.q.zz]; count(b) == 0",
    "b := {1 | r := data.q.zz}; count(b) == 0",
    "b := {r: 1 | r := data.q.zz}; count(b) == 0",
    "b := [data.q.zz | true]; count(b) == 0",
    'b := {"a": data.q.zz | true}; count(b) == 0',
    "b := {data.q.zz | true}; count(b) == 0",
    "b := {data.q.zz: 1 | true}; count(b) == 0",
    "b := [data.q.limits[r] | some r in input.roles]; b == [5]",
    "max([data.q.limits[r] | some r in input.roles]) == 5",
    'b := [upper(r.n) | some r in input.l]; b == ["A", "AB"]',
    'b := [[r.n] | some r in input.l]; b == [["a"], ["ab"]]',
    "some r in data.q.l; s := data.q.zz",
    "some r in data.q.l; s := r; s == 2",
    "h(data.q.zz)",
    "b := input.v # not } the end\n",
]
_RULES = [
    "x := data.q.zz if { true } else := 2",
    "x := data.q.zz if { true } else := 2 if { true }",
    'x := {"a": data.q.zz} if { true } else := 2',
    "x := data.q.a if { true } else := 2",
    "x := f(1) if { true } else := f(2) if { true }",
    "x contains data.q.zz if { true }",
    "x contains [data.q.zz] if { true }",
    "x contains data.q.zz",
    "x := 1 if { some r in data.q.l; r == 9 } else := 2",
    "x if { every r in [] { r == 1 } }",
]


def _answers(text):
    bundle = bundles.make([PolicyFile("a.rego", f"package a\n\nimport rego.v1\n\n{text}\n{_MORE}")], _DATA, "data.a.x")
    given = {"services": {"s": {}}, "callers": {}, "gateway": "", "roles": {}, "scoped_tokens": True}
    engine = RegorusEngine()
    report = engine.inspect(bundle, given)
    assert not report.faults
    question = json.dumps({**_INPUT, "service": "s", "pep": "gateway"})
    chosen = engine.prepare(bundle, given, report.evaluator)
    return report, Interpreter(bundle, given).evaluate(question), chosen.evaluate(question), chosen


@pytest.mark.parametrize("body", _BODIES)
def test_a_body_fails_where_rego_fails(body):
    report, interpreted, chosen, evaluator = _answers(f"default x := false\n\nx if {{ {body} }}")
    assert isinstance(evaluator, Rvm), report.why
    assert json.loads(chosen) == json.loads(interpreted)


@pytest.mark.parametrize("rule", _RULES)
def test_a_rule_has_the_value_that_rego_gives_it(rule):
    _, interpreted, chosen, _ = _answers(rule)
    assert json.loads(chosen) == json.loads(interpreted)


@pytest.mark.parametrize(
    "rule",
    [
        "x if b := data.q.zz",
        "x contains data.q.zz",
        "x := [(1 + data.q.zz) | true]",
        "x := 1 if { some r in data.q.l; r == 9 } else := 2",
        "x if { every r in [] { r == 1 } }",
    ],
)
def test_what_cannot_be_guarded_is_the_interpreters(rule):
    report, _, _, evaluator = _answers(rule)
    assert isinstance(evaluator, Interpreter)
    assert report.why


def test_a_policy_that_was_the_rvms_before_is_still_loaded():
    """The choice is remembered over restarts; one made by an earlier version may no longer stand."""
    bundle = bundles.make(
        [PolicyFile("a.rego", "package a\n\nimport rego.v1\n\nx if b := data.q.zz\n")], {}, "data.a.x"
    )
    given = {"services": {}, "callers": {}, "gateway": "", "roles": {}}
    assert isinstance(RegorusEngine().prepare(bundle, given, "rvm"), Interpreter)


def test_edits_are_put_where_they_belong_and_never_over_each_other():
    assert applied("abé", [Edit(2, 4, b"e"), Edit(0, 0, b"<"), Edit(4, 4, b">")]) == "<abe>"
    with pytest.raises(ValueError, match="overlap"):
        applied("abcd", [Edit(0, 2, b""), Edit(1, 3, b"")])


def test_own_modules_are_left_as_they_are():
    assert rego_guards.why_not([]) == ""
