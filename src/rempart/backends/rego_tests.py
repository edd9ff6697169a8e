"""Policy tests for two evaluators.

The RVM has no `with`, and Rego tests live on it. So the interpreter runs a test with every `with` value led through an
extension function that notes it; afterwards both evaluators are asked about each input that was noted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .rego_syntax import Node, Rule, _chain, _find

CAPTURE = "rempart_capture"
Place = tuple[str, int, int]
Changes = list[tuple[tuple[str, ...], Any]]
Captures = list[tuple[Place, Any, Changes]]


@dataclass
class Captured:
    """The extension function: `(tag, value) -> value`. A tag is `file|line|column|target|last`."""

    captures: Captures
    _pending: dict[str, Any] = field(default_factory=dict)

    def __call__(self, tag: str, value: Any) -> Any:
        file, line, column, target, last = tag.split("|")
        self._pending[target] = _plain(value)
        if last == "1":
            self._note((file, int(line), int(column)))
        return value

    def _note(self, place: Place) -> None:
        document: Any = {}
        changes: Changes = []
        for target, value in self._pending.items():
            root, *path = target.split("\x1f")
            if root == "data":
                changes.append((tuple(path), value))
            elif not path:
                document = value
            else:
                document = _placed(document, path, value)
        self._pending = {}
        self.captures.append((place, document, changes))


def instrument(file: str, text: str, rules: list[Rule]) -> str:
    """`text` with each value of a `with input…` or `with data…` led through the extension."""
    raw = text.encode()
    edits: list[tuple[int, int, str]] = []
    for rule in rules:
        if rule.module != file:
            continue
        for modifiers in _modifiers(rule.node):
            wanted = [(m, t) for m in modifiers if (t := _target(m["refr"]))]
            for index, (modifier, target) in enumerate(wanted):
                start, end = _value_span(raw, modifier)
                span = modifier["span"]
                last = "1" if index == len(wanted) - 1 else "0"
                escaped = "\\u001f".join(target)
                edits.append((start, end, f'"{file}|{span["line"]}|{span["col"]}|{escaped}|{last}"'))
    for start, end, tag in sorted(edits, reverse=True):
        inner = raw[start:end]
        raw = raw[:start] + f"{CAPTURE}({tag}, ".encode() + inner + b")" + raw[end:]
    return raw.decode()


def _value_span(raw: bytes, modifier: Node) -> tuple[int, int]:
    """Bytes of the value of `with TARGET as VALUE`.

    The tree's span of an object begins at its last member, of a string leaves the quotes out, and parentheses are in
    none; so the value is taken to begin after the word `as` and to end where quotes and parentheses are closed.
    """
    after_target = next(iter(modifier["refr"].values()))["span"]["end"]
    word = re.compile(rb"[\"`\]\s]*\bas\b\s*").match(raw, after_target)
    start = word.end() if word else next(iter(modifier["as"].values()))["span"]["start"]
    end = modifier["span"]["end"]
    if raw[end : end + 1] in (b'"', b"`"):
        end += 1
    while raw.count(b"(", start, end) > raw.count(b")", start, end) and raw[end : end + 1].strip() in (b"", b")"):
        if end >= len(raw):
            break
        end += 1
    return start, end


def _modifiers(node: Node) -> list[list[Node]]:
    found: Iterator[Any] = _find(node, "with_mods")
    return [modifiers for modifiers in found if modifiers]


def _target(reference: Node) -> tuple[str, ...]:
    """`("input", …)` or `("data", …)`; empty for a function that is replaced."""
    path, dynamic = _chain(reference)
    return path if not dynamic and path and path[0] in ("input", "data") else ()


def _placed(document: Any, path: list[str], value: Any) -> Any:
    result = dict(document) if isinstance(document, dict) else {}
    result[path[0]] = value if len(path) == 1 else _placed(result.get(path[0]), path[1:], value)
    return result


def _plain(value: Any) -> Any:
    """As JSON has it: sets become sorted arrays."""
    if isinstance(value, dict):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=repr)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
