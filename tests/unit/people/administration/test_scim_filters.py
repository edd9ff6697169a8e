"""SCIM filters: a tree is read back from its text, no text breaks the reader, RFC 7644's examples hold."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.people.administration.scim.filters import (
    MAX_DEPTH,
    MAX_LENGTH,
    OPERATORS,
    All,
    Compare,
    Filter,
    Has,
    Not,
    Present,
    Some,
    matches,
    parse,
)
from rempart.people.administration.scim.refusals import ScimRefusal

names = st.sampled_from(["username", "name.familyname", "emails", "emails.type", "meta.lastmodified", "active", "x-y"])
scalars = st.text(max_size=8) | st.integers(-999, 999) | st.booleans() | st.none()


def _comparable(path: str, operator: str, value: Any) -> Compare:
    return Compare(path, "eq" if isinstance(value, bool | None) and operator != "ne" else operator, value)


leaves = st.builds(_comparable, names, st.sampled_from(OPERATORS), scalars) | st.builds(Present, names)


def _joined(kind: type[All] | type[Some], parts: list[Filter]) -> Filter:
    return kind(tuple(parts))


trees: st.SearchStrategy[Filter] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(Has, st.sampled_from(["emails", "members"]), inner),
        st.builds(_joined, st.sampled_from([All, Some]), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)


def written(tree: Filter) -> str:
    """With parentheses wherever one tree is part of another."""
    match tree:
        case Compare(path, operator, value):
            return f"{path} {operator} {json.dumps(value)}"
        case Present(path):
            return f"{path} pr"
        case Has(path, inner):
            return f"{path}[{written(inner)}]"
        case Not(inner):
            return f"not ({written(inner)})"
        case All(parts):
            return " and ".join(f"({written(part)})" for part in parts)
        case Some(parts):
            return " or ".join(f"({written(part)})" for part in parts)


@settings(max_examples=150)
@given(trees)
def test_a_tree_is_read_back_from_its_text(tree: Filter) -> None:
    assert parse(written(tree)) == tree


@settings(max_examples=300)
@given(st.text(alphabet='ab.[]()" \\-1eq:\u00e9\n', max_size=40) | st.text(max_size=40))
def test_no_text_does_anything_but_be_read_or_refused(text: str) -> None:
    with contextlib.suppress(ScimRefusal):
        parse(text)


def _naive(resource: dict[str, Any], tree: Filter) -> bool:
    """An oracle for flat resources."""
    match tree:
        case All(parts):
            return all(_naive(resource, part) for part in parts)
        case Some(parts):
            return any(_naive(resource, part) for part in parts)
        case Not(inner):
            return not _naive(resource, inner)
        case Present(path):
            return resource.get(path) not in (None, "")
        case Compare(path, operator, value):
            held = resource.get(path)
            if held == "":
                held = None
            if operator == "ne":
                return not _naive(resource, Compare(path, "eq", value))
            if value is None:
                return held is None
            if held is None or isinstance(held, bool) is not isinstance(value, bool):
                return False
            if isinstance(held, str) is not isinstance(value, str):
                return False
            if isinstance(held, bool):
                return held is value
            a, b = (held.casefold(), value.casefold()) if isinstance(value, str) else (held, value)
            text = isinstance(value, str)
            if operator in ("co", "sw", "ew"):
                if not text:
                    return False
                return bool({"co": b in a, "sw": a.startswith(b), "ew": a.endswith(b)}[operator])
            return bool({"eq": a == b, "gt": a > b, "ge": a >= b, "lt": a < b, "le": a <= b}[operator])
    raise AssertionError(tree)


flat_names = st.sampled_from(["username", "active", "age"])
flat = st.recursive(
    st.builds(
        _comparable, flat_names, st.sampled_from(OPERATORS), st.sampled_from(["a", "AB", "", 1, 2, True, False, None])
    )
    | st.builds(Present, flat_names),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(_joined, st.sampled_from([All, Some]), st.lists(inner, min_size=2, max_size=3))
    ),
    max_leaves=6,
)


@settings(max_examples=200)
@given(st.dictionaries(flat_names, st.sampled_from(["", "a", "ab", "b", 1, 2, True, False]), max_size=3), flat)
def test_filters_mean_what_a_naive_reading_says(resource: dict[str, Any], tree: Filter) -> None:
    assert matches(resource, tree) is _naive(resource, tree)


ANN = {
    "id": "2819c223",
    "userName": "bjensen",
    "externalId": "Ext-1",
    "name": {"familyName": "O'Malley", "givenName": "Ann"},
    "title": "Guide",
    "userType": "Employee",
    "active": True,
    "emails": [
        {"value": "ann@example.com", "type": "work", "primary": True},
        {"value": "ann@home.example.org", "type": "home"},
    ],
    "meta": {"lastModified": "2011-05-13T04:42:34.000Z"},
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        # RFC 7644 section 3.4.2.2, the examples of figure 2
        ('userName eq "bjensen"', True),
        ('userName Eq "BJENSEN"', True),
        ('name.familyName co "O\'Malley"', True),
        ('userName sw "J"', False),
        ('urn:ietf:params:scim:schemas:core:2.0:User:userName sw "B"', True),
        ("title pr", True),
        ('meta.lastModified gt "2011-05-13T04:42:34Z"', False),
        ('meta.lastModified ge "2011-05-13T04:42:34Z"', True),
        ('meta.lastModified lt "2011-05-13T06:42:35+02:00"', True),
        ('title pr and userType eq "Employee"', True),
        ('title pr or userType eq "Intern"', True),
        ('userType eq "Employee" and (emails co "example.com" or emails.value co "example.net")', True),
        ('userType ne "Employee" and not (emails co "example.com")', False),
        ('userType eq "Employee" and (emails.type eq "work")', True),
        ('userType eq "Employee" and emails[type eq "work" and value co "@example.com"]', True),
        ('emails[type eq "work" and value co "@home"] or ims[type eq "xmpp" and value co "@foo.com"]', False),
        # precedence: `and` before `or`, `not` before both
        ('title pr or userType eq "x" and userType eq "y"', True),
        ("not (title pr) or active eq true", True),
        ("active eq false", False),
        ("nickName eq null", True),
        ("title ne null", True),
        ('nickName ne "x"', True),
        ('externalId eq "ext-1"', False),  # the case of these counts
        ('externalId eq "Ext-1"', True),
        ('active eq "true"', False),
        ("userName eq 1", False),
    ],
)
def test_examples(text: str, holds: bool) -> None:
    assert matches(ANN, parse(text)) is holds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "userName", "userName eq", 'eq "x"', "userName eq x", 'userName is "x"', 'userName eq "x" and'),
        *('(userName eq "x"', 'userName eq "x")', 'emails[type eq "w"', "not title pr", 'userName eq "\\x"', "a..b pr"),
        *('userName eq "x" "y"', "active gt true", "title co null", "a.b.c pr", 'userName eq "x', "userName eq 1.2.3"),
        *(
            "(" * (MAX_DEPTH + 2) + "a pr" + ")" * (MAX_DEPTH + 2),
            "a pr and " * 400 + "a pr",
            'a eq "' + "x" * MAX_LENGTH + '"',
        ),
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ScimRefusal):
        parse(text)


def test_a_time_that_is_none_is_refused() -> None:
    for value in ("yesterday", "2011-05-13T04:42:34"):
        with pytest.raises(ScimRefusal):
            matches(ANN, parse(f'meta.lastModified gt "{value}"'))
