"""Path patterns at a fifth of their price: what the RVM is given in place of `glob.match` and `regex.match`.

Measured with gordon-to-regorus 0.13: a call of either costs 3.5 µs although the pattern is compiled once, since the
compiled form is copied for each call; a policy that looks for one path among ten patterns spends most of its time
there. Nearly all patterns of a policy don't match, and most of those fail at their literal beginning, which
`startswith` tells for 0.4 µs.

Only a call that stands as a statement of its own is changed, only with `["/"]` as delimiters, and only by putting a
necessary condition before it; a `/**` or `*` at the end is then decided without the pattern. The interpreter goes on
evaluating what the author wrote, and every policy is compared on both before it is used (`regorus_engine._compare`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from .rego_edits import Edit
from .rego_syntax import Node, Rule, _chain, start_of

MODULE = "rempart/matching.rego"
DATA = "patterns"  # under data.rempart
_MOST = 20_000  # strings of a policy's data; patterns beyond are matched without a check before
_LONGEST = 256
_GLOB_LITERAL = re.compile(r"[A-Za-z0-9/._:@-]*")
_REGEX_LITERAL = re.compile(r"[A-Za-z0-9/_-]*")
_GLOB, _REGEX = ("glob", "match"), ("regex", "match")
_TABLES = "data.rempart.patterns"

# `value` begins with the pattern's literal beginning: that was asked before. A NUL is an error to glob.match.
TEXT = """package rempart.matching

import rego.v1

slash(pattern, value) if {
	data.rempart.patterns.deep[pattern]
	not contains(value, "\\u0000")
} else if {
	data.rempart.patterns.flat[pattern]
	not contains(trim_prefix(value, data.rempart.patterns.flat[pattern]), "/")
	not contains(value, "\\u0000")
} else if {
	glob.match(pattern, ["/"], value)
}
"""


def tables(data: Any) -> dict[str, dict[str, Any]]:
    """Of every string in `data` what is certain about its matches, were it a pattern.

    `globs`, `starts`: how each match begins, by a glob or a regular expression; `ends`: how each ends. `deep` are globs
    that match all that begins so (`/a/**`); `flat` those whose only `*` ends them, with what is before it.
    """
    globs: dict[str, Any] = {}
    starts: dict[str, Any] = {}
    ends: dict[str, Any] = {}
    deep: dict[str, Any] = {}
    flat: dict[str, Any] = {}
    seen: set[str] = set()
    for text in _strings(data):
        if len(seen) >= _MOST:
            break
        if text in seen or len(text) > _LONGEST:
            continue
        seen.add(text)
        if beginning := glob_beginning(text):
            globs[text] = beginning
            rest = text[len(beginning) :]
            if rest == "**" and beginning.endswith("/"):
                deep[text] = True
            elif rest == "*":
                flat[text] = beginning
        if beginning := regex_beginning(text):
            starts[text] = beginning
        if end := regex_end(text):
            ends[text] = end
    return {"globs": globs, "starts": starts, "ends": ends, "deep": deep, "flat": flat}


def glob_beginning(pattern: str) -> str:
    """What every match of a glob begins with; may be less than could be said."""
    return _GLOB_LITERAL.match(pattern)[0]  # type: ignore[index]  # it matches at least the empty beginning


def regex_beginning(pattern: str) -> str:
    """What every match of a regular expression begins with: only where it is anchored and has no alternatives."""
    if not pattern.startswith("^") or "|" in pattern:
        return ""
    literal = _REGEX_LITERAL.match(pattern, 1)[0]  # type: ignore[index]  # it matches at least the empty beginning
    following = pattern[1 + len(literal) :]
    return literal[:-1] if following[:1] in ("*", "?", "{", "+") else literal


def regex_end(pattern: str) -> str:
    """What every match of a regular expression ends with: only for a literal with `$` behind it."""
    return pattern[:-1] if pattern.endswith("$") and _REGEX_LITERAL.fullmatch(pattern, 0, len(pattern) - 1) else ""


def edits(rule: Rule) -> Iterator[Edit]:
    """A check before each pattern that `rule` matches as a statement of its own."""
    builtin = {(line, column) for path, line, column in rule.calls if path in (_GLOB, _REGEX)}
    queries = [body["query"]["span"]["start"] for body in rule.node.get("bodies", ())]
    bare = {start for start in queries if rule.text[start : start + 1] != b"{"}
    for statement in _statements(rule.node):
        start, end = statement["span"]["start"], statement["span"]["end"]
        if changed := _checked(statement, builtin, rule.text[start:end].decode()):
            yield Edit(start, end, (f"{{ {changed} }}" if start in bare else changed).encode())


def _checked(statement: Node, builtin: set[tuple[int, int]], written: str) -> str:
    """What replaces the statement; empty to leave it."""
    call = statement["literal"].get("Expr", {}).get("expr", {}).get("Call")
    if call is None or statement.get("with_mods"):
        return ""
    path, _ = _chain(call["fcn"])
    first = start_of(call["fcn"])
    if first is None or (first["line"], first["col"]) not in builtin:
        return ""
    if path == _GLOB and len(call["params"]) == 3:
        pattern, delimiters, value = call["params"]
        items = delimiters.get("Array", {}).get("items", [])
        if [item.get("String", {}).get("value") for item in items] != ["/"]:
            return ""
        of, text = _reference(value), _reference(pattern)
        if of and text:
            return (
                f'startswith({of}, object.get({_TABLES}.globs, {text}, "")); data.rempart.matching.slash({text}, {of})'
            )
    elif path == _REGEX and len(call["params"]) == 2:
        pattern, value = call["params"]
        of, text = _reference(value), _reference(pattern)
        if of and text:
            return (
                f'startswith({of}, object.get({_TABLES}.starts, {text}, "")); '
                f'endswith({of}, object.get({_TABLES}.ends, {text}, "")); {written}'
            )
    return ""


def _reference(node: Node) -> str:
    """A variable or a path of constant names below one, as Rego writes it; empty for all else."""
    path, dynamic = _chain(node)
    return "" if dynamic or not path else path[0] + "".join(f"[{json.dumps(part)}]" for part in path[1:])


def _statements(node: Any) -> Iterator[Node]:
    if isinstance(node, list):
        for item in node:
            yield from _statements(item)
    elif isinstance(node, dict):
        if "literal" in node and "span" in node:
            yield node
        for child in node.values():
            yield from _statements(child)


def _strings(data: Any) -> Iterator[str]:
    """Every string in a JSON document, iteratively: it may be deep."""
    rest = [data]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value
            rest.extend(value.values())
        elif isinstance(value, list):
            rest.extend(value)
