"""Sigma's modifiers and conditions, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rempart.detection.condition import compile_condition
from rempart.detection.matching import selection
from rempart.detection.places import Enrichment
from rempart.detection.ruleset import load
from rempart.kernel.errors import BadInput

FIELDS = Enrichment().fields
OWN: dict[str, Any] = {
    "type": "decision",
    "success": False,
    "status": 403,
    "path": "/Users/usr_a",
    "ip": "2001:db8::1",
    "details": {"tags": ["One", "two"], "deep": {"er": "x*y"}},
}


@pytest.mark.parametrize(
    ("content", "matches"),
    [
        ({"type": "decision"}, True),
        ({"type": "DECISION"}, True),
        ({"type|cased": "DECISION"}, False),
        ({"type": ["login", "decision"]}, True),
        ({"type": "dec*"}, True),
        ({"type": "d?cision"}, True),
        ({"type": "d?ision"}, False),
        ({"success": False}, True),
        ({"success": 0}, False),
        ({"success": "False"}, False),
        ({"status": 403}, True),
        ({"status": "403"}, False),
        ({"status|gte": 400, "status|lt": 404}, True),
        ({"status|gt": 403}, False),
        ({"path|startswith": "/users"}, True),
        ({"path|startswith|cased": "/users"}, False),
        ({"path|endswith": "_A"}, True),
        ({"path|contains": "sers/u"}, True),
        ({"path|contains|all": ["sers", "usr"]}, True),
        ({"path|contains|all": ["sers", "nope"]}, False),
        ({"path|contains": "s*r"}, True),
        ({"details.tags": "ONE"}, True),
        ({"details.tags": "three"}, False),
        ({"details.deep.er": "x\\*y"}, True),
        ({"details.deep.er": "x\\*z"}, False),
        ({"details.deep.er|exists": True}, True),
        ({"details.nothing|exists": True}, False),
        ({"details.nothing|exists": False}, True),
        ({"person": None}, True),
        ({"type": None}, False),
        ({"ip|cidr": "2001:db8::/32"}, True),
        ({"ip|cidr": ["10.0.0.0/8", "2001:db9::/32"]}, False),
        ({"network": "2001:db8::/64"}, True),
        ([{"type": "login"}, {"status": 403}], True),
        ([{"type": "login"}, {"status": 404}], False),
    ],
)
def test_a_selection(content: object, matches: bool) -> None:
    assert selection("here", content, FIELDS)[0](OWN) is matches


SELECTIONS = {
    name: selection("here", {"status": 403 if name[0] == "y" else 404}, FIELDS) for name in ("y1", "y2", "n1")
}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("y1", True),
        ("not y1", False),
        ("not not y1", True),
        ("y1 and n1", False),
        ("y1 or n1", True),
        ("n1 or y1 and n1", False),
        ("(n1 or y1) and y2", True),
        ("not (n1 or y1)", False),
        ("not n1 and y1", True),
        ("1 of them", True),
        ("all of them", False),
        ("all of y*", True),
        ("1 of n*", False),
        ("y1 AND NOT n1", True),
    ],
)
def test_a_condition(text: str, matches: bool) -> None:
    assert compile_condition("here", text, SELECTIONS)[0](OWN) is matches


@pytest.mark.parametrize(
    "text",
    [
        "",
        "y1 y2",
        "y1 and",
        "(y1",
        "y1)",
        "nope",
        "y1 | count() > 5",
        "1 of z*",
        "not",
        "(" * 99 + "y1" + ")" * 99,
        "not " * 99 + "y1",
    ],
)
def test_a_condition_that_is_none(text: str) -> None:
    with pytest.raises(BadInput):
        compile_condition("here", text, SELECTIONS)


def test_which_types_a_condition_can_be_about() -> None:
    types = {
        "login": selection("here", {"type": "people.login"}, FIELDS),
        "both": selection("here", {"type": ["people.login", "decision"]}, FIELDS),
        "any": selection("here", {"status": 1}, FIELDS),
        "wild": selection("here", {"type": "people.*"}, FIELDS),
    }
    assert compile_condition("here", "login or both", types)[1] == {"people.login", "decision"}
    assert compile_condition("here", "login and any", types)[1] == {"people.login"}
    assert compile_condition("here", "login or any", types)[1] is None
    assert compile_condition("here", "not login", types)[1] is None
    assert compile_condition("here", "wild", types)[1] is None


RULE = """
title: T
name: mine
id: 7f9c24b8-0e0c-4c49-a4ad-4fbb3a2f5a11
logsource: {product: rempart}
tags: [attack.t1078]
detection: {selection: {type: people.login}, condition: selection}
falsepositives: [none]
level: high
"""
COUNT = """
---
title: C
name: counted
id: 7f9c24b8-0e0c-4c49-a4ad-4fbb3a2f5a12
tags: [attack.t1078]
correlation: {type: event_count, rules: [mine], group-by: [person], timespan: 5m, condition: {gte: 5}}
falsepositives: [none]
level: high
"""


def written(directory: Path, text: str) -> Path:
    (directory / "mine.yml").write_text(text)
    return directory


def test_a_rule_of_ones_own(tmp_path: Path) -> None:
    assert [rule.name for rule in load([written(tmp_path, RULE + COUNT)]).rules] == ["mine", "counted"]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("name: mine", "name: Mine!", "small letters"),
        ("name: mine", "name: counted", "another rule's"),
        ("a11", "zzz", "no UUID"),
        ("level: high", "level: loud", "level"),
        ("tags: [attack.t1078]", "tags: []", "ATT&CK"),
        ("falsepositives: [none]", "falsepositives: []", "falsepositives"),
        ("product: rempart", "product: windows", "logsource"),
        ("title: T", "title: T\nunheard: of", "unheard"),
        ("type: people.login", "type|re: .*", "re"),
        ("type: people.login", "type|base64: x", "base64"),
        ("selection: {type: people.login}", "selection: [lockout, denied]", "keywords"),
        ("condition: selection", "condition: [selection]", "condition"),
        ("level: high", "level: high\nreason: '{person} did it'", "reason"),
        ("level: high", "level: high\nreason: '{count.__class__}'", "reason"),
        ("rules: [mine]", "rules: [nobody]", "is no rule"),
        ("rules: [mine]", "rules: [counted]", "refers to itself"),
        ("rules: [mine]", "rules: []", "no `rules`"),
        ("timespan: 5m", "timespan: soon", "timespan"),
        ("{gte: 5}", "{lt: 5}", "stream"),
        ("{gte: 5}", "{gte: 5000000}", "threshold"),
        ("{gte: 5}", "{gte: 5, gt: 5}", "either"),
        ("type: event_count", "type: value_sum", "not known"),
        ("type: event_count", "type: value_count", "field"),
        ("type: event_count", "type: temporal", "two rules"),
        ("type: event_count", "type: inactivity", "no condition"),
    ],
)
def test_a_rule_that_is_refused(tmp_path: Path, old: str, new: str, why: str) -> None:
    assert old in RULE + COUNT
    with pytest.raises(BadInput, match="the rule") as refusal:
        load([written(tmp_path, (RULE + COUNT).replace(old, new))])
    assert why in refusal.value.reason


@pytest.mark.parametrize("text", ["[", "- 1", "a: &a [*a]", "x: !!python/object/apply:os.system [id]", "\x00", "--- 5"])
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput):
        load([written(tmp_path, text)])
