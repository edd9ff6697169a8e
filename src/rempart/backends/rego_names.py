"""The names that a policy's rules answer with: what it may write into `rule` of its decision.

Read off the syntax: `"rule": "wallet.own"` in an object, and the constants given to a function whose parameter ends up
there, as in `allowed("wallet.own", "…")`. Names that are put together at run time stay unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import regorus

from rempart.policy.model import PolicyFile

Node = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NamedRule:
    name: str
    file: str
    line: int


def named_rules(files: list[PolicyFile]) -> list[NamedRule]:
    """In the order in which they are written; each name once. The files must be a policy that was accepted."""
    engine = regorus.Engine()
    for file in files:
        engine.add_policy(file.path, file.text)
    modules = json.loads(engine.get_ast_as_json())
    parameters = {name: index for module in modules for name, index in _naming_functions(module)}
    found: dict[str, NamedRule] = {}
    for module in modules:
        file = module["source"]["file"]
        for node in _names(module["ast"]["rules"], parameters):
            name = str(node["value"])
            found.setdefault(name, NamedRule(name, file, node["span"]["line"]))
    return sorted(found.values(), key=lambda rule: (rule.file, rule.line))


def _naming_functions(module: Node) -> Iterator[tuple[str, int]]:
    """Functions whose n-th parameter becomes the name."""
    for rule in module["ast"]["rules"]:
        head = rule.get("Spec", {}).get("head", {}).get("Func")
        if not head or "Var" not in head["refr"]:
            continue
        arguments = [argument.get("Var", {}).get("value") for argument in head["args"]]
        for value in _rule_members(rule):
            if "Var" in value and value["Var"]["value"] in arguments:
                yield head["refr"]["Var"]["value"], arguments.index(value["Var"]["value"])


def _names(node: Any, parameters: dict[str, int]) -> Iterator[Node]:
    for value in _rule_members(node):
        if "String" in value:
            yield value["String"]
    for call in _every("Call", node):
        index = parameters.get(_last_name(call["fcn"]))
        if index is not None and index < len(call["params"]) and "String" in call["params"][index]:
            yield call["params"][index]["String"]


def _rule_members(node: Any) -> Iterator[Node]:
    """The values of members named `rule` in all objects below."""
    for literal in _every("Object", node):
        for _, key, value in literal["fields"]:
            if key.get("String", {}).get("value") == "rule":
                yield value


def _last_name(function: Node) -> str:
    if "Var" in function:
        return str(function["Var"]["value"])
    return str(function["RefDot"]["field"][1]) if "RefDot" in function else ""


def _every(kind: str, node: Any) -> Iterator[Node]:
    if isinstance(node, list):
        for item in node:
            yield from _every(kind, item)
    elif isinstance(node, dict):
        for key, child in node.items():
            if key == kind:
                yield child
            yield from _every(kind, child)
