"""Sigma's search identifiers as predicates over one event (Sigma specification 2.1, "Detection").

An event is the plain object under `unmapped.rempart`; `details.account` names a field inside a field, and `place.…`
what the offline geo file says of `ip`. A field that holds a list matches when one of its items does. Comparison of text
ignores case unless the modifier `cased` is there; `*` and `?` are wildcards, `\\` takes their meaning away. What is
compared comes from the rule alone: nothing in an event is ever a pattern. `re` is refused: an event's text from outside
could hold the engine for hours.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from rempart.kernel.errors import BadInput

Own = Mapping[str, Any]
Getter = Callable[[Own], Any]
Predicate = Callable[[Own], bool]

_MODIFIERS = frozenset(
    ("contains", "startswith", "endswith", "all", "cased", "cidr", "exists", "gt", "gte", "lt", "lte")
)
_ESCAPE = re.compile(r"\\([*?\\])")


def refuse(where: str, why: str) -> BadInput:
    return BadInput("bad_rule", f"the rule {where}: {why}"[:500], "see docs/detections.md for what a rule may say")


def getter(field: str, enrich: Mapping[str, Getter] | None = None) -> Getter:
    """`field` of an event, None when it isn't there. `enrich` computes fields that no event has."""
    if enrich and field in enrich:
        return enrich[field]
    first, *rest = field.split(".")
    if not rest:
        return lambda own: own.get(first)
    if len(rest) == 1:
        second = rest[0]

        def inner(own: Own) -> Any:
            value = own.get(first)
            return value.get(second) if type(value) is dict else None

        return inner

    def deep(own: Own) -> Any:
        value: Any = own.get(first)
        for name in rest:
            if type(value) is not dict:
                return None
            value = value.get(name)
        return value

    return deep


def selection(where: str, content: object, enrich: Mapping[str, Getter]) -> tuple[Predicate, frozenset[str] | None]:
    """The predicate of a search identifier, and which `type`s of events it can be about (None: any).

    A map is an AND of its items, a list of maps an OR. Raises BadInput `bad_rule`.
    """
    if isinstance(content, list):
        if not content:
            raise refuse(where, "an empty list selects nothing")
        parts = [selection(where, one, enrich) for one in content]
        kinds = [kind for _, kind in parts]
        known = [kind for kind in kinds if kind is not None]
        tests = [test for test, _ in parts]
        return any_of(tests), frozenset().union(*known) if len(known) == len(kinds) else None
    if not isinstance(content, dict) or not content:
        raise refuse(
            where, "a search identifier is a map of fields, or a list of such maps (keywords are not read here)"
        )
    tests = []
    types: frozenset[str] | None = None
    for name, wanted in content.items():
        field, *modifiers = str(name).split("|")
        unknown = [modifier for modifier in modifiers if modifier not in _MODIFIERS]
        if unknown or not field:
            raise refuse(where, f"{name!r} has a modifier that is not read here: {', '.join(unknown) or 'no field'}")
        values = wanted if isinstance(wanted, list) else [wanted]
        if not values or any(isinstance(value, list | dict) for value in values):
            raise refuse(where, f"{name!r} must be a value or a list of values")
        if field == "type" and not modifiers and not any("*" in str(v) or "?" in str(v) for v in values):
            these = frozenset(str(value) for value in values)
            types = these if types is None else types & these
        tests.append(_field_test(where, getter(field, enrich), modifiers, values))
    return all_of(tests), types


def any_of(tests: list[Predicate]) -> Predicate:
    if len(tests) == 1:
        return tests[0]
    return lambda own: any(test(own) for test in tests)


def all_of(tests: list[Predicate]) -> Predicate:
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda own: first(own) and second(own)

    def test_all(own: Own) -> bool:
        for test in tests:  # noqa: SIM110 - a generator would cost more than the tests
            if not test(own):
                return False
        return True

    return test_all


def _field_test(where: str, get: Getter, modifiers: list[str], values: list[Any]) -> Predicate:
    if "exists" in modifiers:
        wanted = values == [True]
        return lambda own: (get(own) is not None) is wanted
    if not {"all", "contains", "startswith", "endswith", "cidr", "gt", "gte", "lt", "lte"} & set(modifiers):
        plain = _plain_test(get, values, cased="cased" in modifiers)
        if plain is not None:
            return plain
    tests = [_value_test(where, modifiers, value) for value in values]
    every = "all" in modifiers

    def matches(value: Any) -> bool:
        return all(test(value) for test in tests) if every else any(test(value) for test in tests)

    def test_field(own: Own) -> bool:
        value = get(own)
        return any(matches(item) for item in value) if type(value) is list else matches(value)

    return test_field


def _plain_test(get: Getter, values: list[Any], *, cased: bool) -> Predicate | None:
    """The quick way for what most rules say: equality with texts, numbers, booleans or null, without wildcards."""
    if any(isinstance(v, str) and ("*" in v or "?" in v or "\\" in v) for v in values):
        return None
    texts = frozenset(v if cased else v.lower() for v in values if isinstance(v, str))
    others = [v for v in values if not isinstance(v, str)]

    def one(value: Any) -> bool:
        if type(value) is str:
            return value in texts or (not cased and value.lower() in texts)
        return any(value is other or (type(value) is type(other) and value == other) for other in others)

    if len(others) == 1 and not texts and isinstance(others[0], bool):
        wanted = others[0]

        def test_flag(own: Own) -> bool:
            value = get(own)
            return value is wanted or (type(value) is list and wanted in [item for item in value if type(item) is bool])

        return test_flag

    def test_plain(own: Own) -> bool:
        value = get(own)
        if type(value) is str and value in texts:
            return True
        return any(one(item) for item in value) if type(value) is list else one(value)

    return test_plain


def _value_test(where: str, modifiers: list[str], wanted: Any) -> Callable[[Any], bool]:
    for name in ("gt", "gte", "lt", "lte"):
        if name in modifiers:
            return _comparison(where, name, wanted)
    if "cidr" in modifiers:
        return _cidr(where, wanted)
    if not isinstance(wanted, str):
        return lambda value: value is wanted or (type(value) is type(wanted) and value == wanted)
    if not any(char in wanted for char in "*?\\") and (plain := _affix_test(modifiers, wanted)) is not None:
        return plain
    pattern = _pattern(wanted)
    if "contains" in modifiers:
        pattern = f".*{pattern}.*"
    elif "startswith" in modifiers:
        pattern = f"{pattern}.*"
    elif "endswith" in modifiers:
        pattern = f".*{pattern}"
    flags = re.DOTALL if "cased" in modifiers else re.DOTALL | re.IGNORECASE
    found = re.compile(pattern, flags).fullmatch
    return lambda value: type(value) is str and found(value[:_MAX_TEXT]) is not None


def _affix_test(modifiers: list[str], wanted: str) -> Callable[[Any], bool] | None:
    """`contains`, `startswith` and `endswith` of plain text."""
    compare: Callable[[str, str], bool]
    if "contains" in modifiers:
        compare = str.__contains__
    elif "startswith" in modifiers:
        compare = str.startswith
    elif "endswith" in modifiers:
        compare = str.endswith
    else:
        return None
    if "cased" in modifiers:
        return lambda value: type(value) is str and compare(value, wanted)
    lower = wanted.lower()
    return lambda value: type(value) is str and compare(value.lower(), lower)


_MAX_TEXT = 2048  # characters of a field that a pattern looks at: bounds what an event can cost


def _pattern(text: str) -> str:
    """Sigma's wildcards as a regular expression; runs of `*` are one, so that matching stays linear in practice."""
    out = []
    at = 0
    while at < len(text):
        escaped = _ESCAPE.match(text, at)
        if escaped:
            out.append(re.escape(escaped[1]))
            at = escaped.end()
            continue
        char = text[at]
        out.append(".*" if char == "*" else "." if char == "?" else re.escape(char))
        if char == "*" and out[-2:] == [".*", ".*"]:
            out.pop()
        at += 1
    return "".join(out)


def _comparison(where: str, name: str, wanted: Any) -> Callable[[Any], bool]:
    if isinstance(wanted, bool) or not isinstance(wanted, int | float):
        raise refuse(where, f"{name} compares with a number")
    limit = float(wanted)
    compare: dict[str, Callable[[float], bool]] = {
        "gt": lambda value: value > limit,
        "gte": lambda value: value >= limit,
        "lt": lambda value: value < limit,
        "lte": lambda value: value <= limit,
    }
    test = compare[name]
    return lambda value: type(value) in (int, float) and test(value)


def _cidr(where: str, wanted: Any) -> Callable[[Any], bool]:
    try:
        network = ipaddress.ip_network(str(wanted))
    except ValueError:
        raise refuse(where, f"{wanted!r} is no network") from None

    def inside(value: Any) -> bool:
        try:
            return type(value) is str and ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return inside


def named(names: Mapping[str, Any], pattern: str) -> list[str]:
    """The search identifiers that `1 of PATTERN` is about; `them` leaves out those that begin with `_`."""
    if pattern == "them":
        return [name for name in names if not name.startswith("_")]
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]
