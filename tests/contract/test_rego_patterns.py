"""The RVM is given a check before each pattern; whatever it is asked, it answers as without."""

import json
import re

import pytest
import regorus
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.backends import rego_patterns, rego_syntax
from rempart.backends.rego_edits import applied
from rempart.backends.regorus_engine import RegorusEngine
from rempart.policy import bundle as bundles
from rempart.policy.model import PolicyFile

_PLAIN = """package authz

import rego.v1

default globbed := false

globbed if {
	some pattern in data.wanted
	glob.match(pattern, ["/"], input.value)
}

default asked := false

asked if glob.match(input.pattern, ["/"], input.value)

default expressed := false

expressed if {
	some pattern in data.wanted
	regex.match(pattern, input.value)
}

none if {
	every pattern in data.wanted { not glob.match(pattern, ["/"], input.value) }
}

held := glob.match(data.wanted[0], ["/"], input.value)

dotted if glob.match(data.wanted[0], ["."], input.value)

decision := {"allow": false, "reason": json.marshal([globbed, asked, expressed])}
"""

_piece = st.sampled_from(
    ["/", "*", "**", "?", "a", "ab", "é", "\x00", "-", ".", "[ab]", "{a,b}", "\\*", "!", "\n", ":"]
)
_glob = st.lists(_piece, max_size=6).map("".join)
_value = st.lists(st.sampled_from(["/", "a", "ab", "b", "é", "\x00", "-", ".", "*", "\n"]), max_size=7).map("".join)
_regex = st.lists(
    st.sampled_from(["^", "$", "/", "a", "ab", "b", ".*", "a?", "b*", "a+", "(", ")", "|", "[ab]", "(?i)", "(?m)"]),
    max_size=6,
).map("".join)


def _bundle(data, text=_PLAIN):
    return bundles.make([PolicyFile("authz.rego", text)], data, "data.authz.decision")


def _answers(bundle, questions):
    """Every question's answer, as the author wrote the policy and with the checks."""
    given_data = {"services": {}, "callers": {}, "gateway": "", "roles": {}}
    changed = RegorusEngine().prepare(bundle, given_data, "rvm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rego_patterns, "edits", lambda rule: ())
        written = RegorusEngine().prepare(bundle, given_data, "rvm")
    document = {**bundle.data, "rempart": given_data}
    asked = ["data.authz.decision"]
    return [
        (written.answers(document, json.dumps(q), asked), changed.answers(document, json.dumps(q), asked))
        for q in questions
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(_glob, min_size=1, max_size=4), st.lists(st.tuples(_glob, _value), min_size=1, max_size=5))
def test_globs_match_what_they_matched_without_the_check(patterns, questions):
    asked = [{"pattern": pattern, "value": value} for pattern, value in questions]
    for written, changed in _answers(_bundle({"wanted": patterns}), asked):
        assert changed == written


@settings(max_examples=150, deadline=None)
@given(st.lists(_regex, min_size=1, max_size=4), st.lists(_value, min_size=1, max_size=5))
def test_regular_expressions_match_what_they_matched_without_the_check(patterns, values):
    for written, changed in _answers(_bundle({"wanted": patterns}), [{"pattern": "*", "value": v} for v in values]):
        assert changed == written


@pytest.mark.parametrize("value", [None, 3, True, ["a"], {"a": 1}, "", "/a", "/a/", "/a/b", "/a/b/c", "/A", "/a\0"])
@pytest.mark.parametrize("pattern", ["/a/**", "/a/*", "/a*", "/a", "**", "*", "^/a", "^/a?", "/b$", "^/a$|c", 7, None])
def test_every_shape_answers_alike(pattern, value):
    for data in ({"wanted": [pattern]}, {"wanted": []}):
        ((written, changed),) = _answers(_bundle(data), [{"pattern": pattern, "value": value}])
        assert changed == written


def _changed(text):
    engine = regorus.Engine()
    engine.add_policy("authz.rego", text)
    rules = rego_syntax.parse(engine.get_ast_as_json())
    return applied(text, [edit for rule in rules for edit in rego_patterns.edits(rule)])


def test_only_statements_with_the_slash_as_delimiter_are_changed():
    changed = _changed(_PLAIN)
    assert changed.count("rempart.matching.slash(") == 2
    assert changed.count("patterns.starts") == changed.count("patterns.ends") == 1
    untouched = _changed(_PLAIN.replace('glob.match(pattern, ["/"]', "glob.match(pattern, []"))
    assert untouched.count("rempart.matching.slash(") == 1


def test_a_function_of_the_authors_own_with_that_name_is_left_alone():
    text = 'package authz\n\nimport data.mine as glob\n\nx if glob.match("a", ["/"], input.v)\n'
    assert _changed(text) == text


def test_text_beyond_ascii_keeps_its_place():
    text = 'package authz\n\n# é ü 漢\nx if { input.y == "漢é"; glob.match(input.p, ["/"], input["ü"]) }\n'
    assert 'input.y == "漢é"; startswith(input["\\u00fc"]' in _changed(text)


@given(_regex, _value)
def test_what_is_said_of_a_regular_expression_holds_for_every_match(pattern, value):
    try:
        found = re.search(pattern.replace("$", r"\Z"), value)
    except re.error:
        return
    if found:
        assert value.startswith(rego_patterns.regex_beginning(pattern))
        assert value.endswith(rego_patterns.regex_end(pattern))


def test_a_beginning_is_what_it_looks_like():
    assert rego_patterns.glob_beginning("/api/orders/**") == "/api/orders/"
    assert rego_patterns.glob_beginning("{a,b}") == ""
    assert rego_patterns.glob_beginning("a\\*b") == "a"
    assert rego_patterns.regex_beginning("^/admin(/.*)?$") == "/admin"
    assert rego_patterns.regex_beginning("^/admin?") == "/admi"
    assert rego_patterns.regex_beginning("^/a|b") == ""
    assert rego_patterns.regex_beginning("/a") == ""
    assert rego_patterns.regex_end("/export$") == "/export"
    assert rego_patterns.regex_end("a.b$") == ""


def test_tables_are_bounded_and_deep_data_is_no_danger():
    deep: object = "end"
    for _ in range(5000):
        deep = [deep]
    assert "end" in rego_patterns.tables({"deep": deep})["globs"]
    many = rego_patterns.tables({"many": [f"/p{n}" for n in range(30_000)]})
    assert len(many["globs"]) == 20_000
    assert rego_patterns.tables({"long": "a" * 1000})["globs"] == {"long": "long"}
