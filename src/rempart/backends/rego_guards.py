"""Statements that make the RVM fail where Rego does.

Measured with gordon-to-regorus 0.13: the RVM goes on after `account := data.accounts[id]` when there's no such account,
so that `not account.disabled` behind it holds; a comprehension whose head is undefined for one element is undefined as
a whole, where Rego leaves the element out, and a set rule gets a member "<undefined>"; an `else` isn't tried when the
value before it is undefined. Each is cured by asking in the body for what must have a value. `why_not` names what can't
be cured so: such a policy is the interpreter's.
"""

from __future__ import annotations

from collections.abc import Iterator

from .rego_edits import Edit
from .rego_syntax import _NO_VALUE, Node, Rule, _bound_names, _find, _literal

_EXACT = frozenset({"Var", "RefDot", "RefBrack", "Call"})  # whose spans in the tree are what was written
_COMPREHENSIONS = ("ArrayCompr", "SetCompr", "ObjectCompr")


class Unguarded(Exception):
    """The text says what and where."""


def why_not(rules: list[Rule]) -> str:
    """Empty, or the first place that can't be guarded."""
    try:
        for rule in rules:
            edits(rule)
    except Unguarded as error:
        return str(error)
    return ""


def edits(rule: Rule) -> list[Edit]:
    """What to insert into the module of `rule`. Raises Unguarded."""
    if rule.module.startswith("rempart/"):  # ours: its values are constants, and its tests ask both evaluators
        return []
    wanted: dict[int, tuple[Node, list[str]]] = {}
    names = _bound_names(rule.node, rule.text)

    def guard(query: Node, expressions: list[str]) -> None:
        if expressions:
            wanted.setdefault(query["span"]["start"], (query, []))[1].extend(expressions)

    for query in _find(rule.node, "query"):
        for statement in query["stmts"]:
            assigned = statement["literal"].get("Expr", {}).get("expr", {}).get("AssignExpr")
            if assigned and assigned["op"] == "ColEq" and "Var" in assigned["lhs"] and not _certain(assigned["rhs"]):
                name = assigned["lhs"]["Var"]["value"]
                guard(query, [f"{name} == {name}"])
    for kind in _COMPREHENSIONS:
        for comprehension in _find(rule.node, kind):
            heads = [comprehension[part] for part in ("term", "key", "value") if comprehension.get(part)]
            guard(comprehension["query"], [text for head in heads for text in _defined(head, rule, names)])
    bodies = rule.node.get("bodies", [])
    if rule.kind == "partial":
        member = next(iter(rule.node["head"].values())).get("key")
        conditions = list(_defined(member, rule, names)) if member else []
        if conditions and not bodies:
            raise Unguarded(f"{rule.module}:{rule.line}: a member without a body that may be undefined")
        for body in bodies:
            guard(body["query"], conditions)
    if len(bodies) > 1:
        first = next(iter(rule.node["head"].values()))
        for body in bodies[:-1]:
            value = body["assign"] if body["is_else"] else first.get("assign")
            if value is not None:
                guard(body["query"], list(_defined(value["value"], rule, names)))
    return [_insertion(query, expressions, rule) for query, expressions in wanted.values()]


def _insertion(query: Node, expressions: list[str], rule: Rule) -> Edit:
    end: int = query["span"]["end"]
    lines = ("\n" + "\n".join(dict.fromkeys(expressions)) + "\n").encode()
    if rule.text[end - 1 : end] not in (b"}", b"]") or rule.text[query["span"]["start"]] not in b"{|":
        raise Unguarded(f"{rule.module}:{query['span']['line']}: a body without braces that may be undefined")
    return Edit(end - 1, end - 1, lines)


def _defined(node: Node, rule: Rule, names: set[str]) -> Iterator[str]:
    """Statements that hold when the expression has a value. `names` are local, so they have one."""
    ((kind, body),) = node.items()
    if _certain(node) or (kind == "Var" and body["value"] in names):
        return
    if kind in _EXACT:
        text = rule.text[body["span"]["start"] : body["span"]["end"]].decode()
        yield f"type_name({text})" if kind == "Call" else f"{text} == {text}"
    elif kind in ("Array", "Set"):
        for item in body["items"]:
            yield from _defined(item, rule, names)
    elif kind == "Object":
        for _, key, value in body["fields"]:
            yield from _defined(key, rule, names)
            yield from _defined(value, rule, names)
    else:
        raise Unguarded(f"{rule.module}:{body['span']['line']}: an expression here may be undefined; give it a name")


def _certain(node: Node) -> bool:
    """Whether it has a value whatever the input: constants, comprehensions, and what is built of those and of names.

    A name in an expression has a value by then: what it was assigned is guarded itself.
    """
    ((kind, body),) = node.items()
    if kind in _COMPREHENSIONS or _literal(node) is not _NO_VALUE:
        return True
    if kind in ("Array", "Set"):
        return all(_certain(item) for item in body["items"])
    if kind == "Object":
        return all(_certain(key) and _certain(value) for _, key, value in body["fields"])
    return False
