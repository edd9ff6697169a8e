"""What can be read off a policy's syntax before it runs: unknown functions, recursion, and rules that only the
interpreter answers as Rego says.

Works on the tree that `regorus.Engine.get_ast_as_json` gives. Measured with gordon-to-regorus 0.13: the interpreter
overflows its stack on recursive functions and takes the process along, the RVM on recursive rules; the RVM doesn't see
that a complete rule has two values, whether they come from two bodies or from one that iterates; it doesn't try the
`else` behind a body that iterates; it has no `with`, no `default` functions and no `walk`; and it takes an error in a
builtin for undefined, as OPA does. What else it does its own way is cured in `rego_guards`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rempart.policy.model import Fault

Node = dict[str, Any]
Path = tuple[str, ...]
_COMPREHENSIONS = frozenset({"ArrayCompr", "SetCompr", "ObjectCompr"})
_LITERALS = frozenset({"String", "RawString", "Number", "Bool", "Null", "True", "False"})
_NO_VALUE = object()

# Builtins that exist and are refused: an answer must follow from policy, data and input alone, or it can't be replayed.
IMPURE = {
    "http.send": "a policy may not use the network",
    "time.now_ns": "use input.context.now_ns, the recorded time",
    "rand.intn": "a decision may not be random",
    "uuid.rfc4122": "a decision may not be random",
    "opa.runtime": "a decision may not depend on the process",
    "trace": "remove it",
    "print": "remove it; see `rempart policy eval`",
}


@dataclass
class Rule:
    """One definition as written: `path` is its full name below `data`."""

    module: str
    path: Path
    line: int
    column: int
    kind: str  # "complete" | "partial" | "function" | "default"
    node: Node
    text: bytes
    value: Any = _NO_VALUE  # the constant it gives, when it always gives that one
    iterates: bool = False  # may give several values for one input
    loops: bool = False  # a body before an `else` iterates
    references: list[Path] = field(default_factory=list)
    calls: list[tuple[Path, int, int]] = field(default_factory=list)


def parse(ast_json: str) -> list[Rule]:
    """All rules of all modules, test rules included."""
    modules = json.loads(ast_json)
    parsed = [_Module(module) for module in modules]
    for module in parsed:
        module.known = {
            rule.path[len(module.package)]
            for other in parsed
            if other.package == module.package
            for rule in other.rules
        }
    for module in parsed:
        module.resolve()
    return [rule for module in parsed for rule in module.rules]


def packages(ast_json: str) -> dict[str, Path]:
    """File → package path."""
    return {m["source"]["file"]: _chain(m["ast"]["package"]["refr"])[0] for m in json.loads(ast_json)}


def unknown_functions(rules: list[Rule], builtins: frozenset[str]) -> Iterator[Fault]:
    functions = {rule.path for rule in rules if rule.kind in ("function", "default")}
    for rule in rules:
        for path, line, column in rule.calls:
            name = ".".join(path)
            if path in functions:
                continue
            if name in IMPURE:
                yield Fault(rule.module, line, column, f"{name} is not allowed here: {IMPURE[name]}")
            elif name not in builtins:
                hint = "; tokens are verified before policy runs" if name.startswith(("io.jwt.", "crypto.")) else ""
                yield Fault(rule.module, line, column, f"unknown function {name}{hint}")


def recursion(rules: list[Rule]) -> Iterator[Fault]:
    """Rules that depend on themselves, which Rego forbids."""
    by_path: dict[Path, list[Rule]] = {}
    for rule in rules:
        by_path.setdefault(rule.path, []).append(rule)
    edges: dict[Path, set[Path]] = {}
    for path, definitions in by_path.items():
        wanted = {reference for rule in definitions for reference in rule.references}
        edges[path] = {
            other for other in by_path for ref in wanted if ref[: len(other)] == other or other[: len(ref)] == ref
        }
    done: set[Path] = set()
    for start in by_path:
        cycle = _cycle(start, edges, done)
        if cycle:
            rule = by_path[cycle[0]][0]
            way = " → ".join("data." + ".".join(step) for step in cycle)
            yield Fault(rule.module, rule.line, rule.column, f"the rule depends on itself: {way}")
            return


def why_not_rvm(rules: list[Rule]) -> str:
    """Empty when both evaluators must agree as far as syntax tells; else the first reason why not."""
    complete: dict[Path, list[Rule]] = {}
    for rule in rules:
        place = f"{rule.module}:{rule.line}"
        if rule.kind == "default" and rule.node.get("args"):
            return f"{place}: a default for a function"
        if next(_find(rule.node, "Every"), None):
            return f"{place}: `every`, after which the RVM was seen to forget what failed"
        if rule.loops:
            return f"{place}: an `else` behind a body that iterates"
        if rule.kind == "object":
            return f"{place}: a partial object, whose keys may get two values"
        if rule.kind in ("complete", "function"):
            complete.setdefault(rule.path, []).append(rule)
    for path, definitions in complete.items():
        first = definitions[0]
        for rule in definitions:
            if rule.iterates:
                return f"{rule.module}:{rule.line}: {'.'.join(path)} may get several values from one body"
            if len(definitions) > 1 and (rule.value is _NO_VALUE or rule.value != first.value):
                return f"{rule.module}:{rule.line}: {'.'.join(path)} has several bodies with differing values"
    return ""


class _Module:
    def __init__(self, node: Node) -> None:
        self.file: str = node["source"]["file"]
        self.text: bytes = node["source"]["contents"].encode()
        self.package = _chain(node["ast"]["package"]["refr"])[0]
        self.imports: dict[str, Path] = {}
        self.known: set[str] = set()
        for item in node["ast"]["imports"]:
            path = _chain(item["refr"])[0]
            alias = item.get("as")
            name = self.text[alias["start"] : alias["end"]].decode() if alias else path[-1]
            self.imports[name] = path
        self.rules = [self._rule(kind, body) for rule in node["ast"]["rules"] for kind, body in rule.items()]

    def _rule(self, outer: str, node: Node) -> Rule:
        span = node["span"]
        if outer == "Default":
            path, _ = _chain(node["refr"])
            return Rule(self.file, self.package + path, span["line"], span["col"], "default", node, self.text)
        ((shape, head),) = node["head"].items()
        path, dynamic = _chain(head["refr"])
        kind = {"Func": "function", "Set": "partial"}.get(shape, "complete")
        if kind == "complete" and dynamic:
            kind = "object" if head.get("assign") else "partial"
        return Rule(self.file, self.package + path, span["line"], span["col"], kind, node, self.text)

    def resolve(self) -> None:
        for rule in self.rules:
            bound = _bound_names(rule.node, self.text)
            for path, _ in _references(_parts(rule.node)):
                target = self._data_path(path, bound)
                if target:
                    rule.references.append(target)
            for call in _find(rule.node, "Call"):
                path, _ = _chain(call["fcn"])
                span = call["span"]
                start = start_of(call["fcn"]) or span
                target = self._data_path(path, set())
                rule.calls.append((target or path, start["line"], start["col"]))
                if target:
                    rule.references.append(target)
            if rule.kind in ("complete", "function"):
                before_else = [body["query"] for body in rule.node["bodies"][:-1]]
                rule.loops = self._iterates(before_else, _settled_names(rule.node))
                rule.value = _constant(rule.node)
                rule.iterates = rule.value is _NO_VALUE and self._several(rule.node, bound)

    def _data_path(self, path: Path, bound: set[str]) -> Path:
        """The path below `data`; empty for input, local names and builtins."""
        if not path or path[0] in bound:
            return ()
        if path[0] == "data":
            return path[1:] or ("",)
        if path[0] in self.imports:
            whole = self.imports[path[0]] + path[1:]
            return whole[1:] if whole[0] == "data" else ()
        return self.package + path if path[0] in self.known else ()

    def _several(self, node: Node, bound: set[str]) -> bool:
        """Whether a body iterates and the value may depend on it."""
        settled = _settled_names(node)
        head = next(iter(node["head"].values()))
        for body in node["bodies"] or [{"assign": None, "query": {"stmts": []}, "is_else": False}]:
            assign = body["assign"] if body.get("is_else") else head.get("assign")
            if assign is None:
                continue
            value = assign["value"]
            if self._iterates(value, settled):
                return True
            names = {path[0] for path, _ in _references(value)}
            if names & (bound - _function_arguments(node)) and self._iterates(body["query"], settled):
                return True
        return False

    def _iterates(self, node: Any, settled: set[str]) -> bool:
        if isinstance(node, list):
            return any(self._iterates(item, settled) for item in node)
        if not isinstance(node, dict):
            return False
        for key, child in node.items():
            if key in _COMPREHENSIONS or key == "Every":
                continue
            if key in ("SomeIn", "SomeVars"):
                return True
            if key == "RefBrack" and "Var" in child["index"]:
                name = child["index"]["Var"]["value"]
                if name not in settled and name not in self.known and name not in self.imports and name != "input":
                    return True
            if key == "Call" and _chain(child["fcn"])[0] == ("walk",):
                return True
            if self._iterates(child, settled):
                return True
        return False


def _chain(node: Node) -> tuple[Path, bool]:
    """A reference's constant parts from the left, and whether something dynamic follows."""
    ((kind, body),) = node.items()
    if kind == "Var":
        return (str(body["value"]),), False
    if kind == "RefDot":
        path, dynamic = _chain(body["refr"])
        return (path if dynamic else (*path, str(body["field"][1]))), dynamic
    if kind == "RefBrack":
        path, dynamic = _chain(body["refr"])
        index = body["index"]
        if not dynamic and "String" in index:
            return (*path, str(index["String"]["value"])), False
        return path, True
    return (), True


def start_of(node: Node) -> Node | None:
    """Where a reference begins; the span of `a.b` itself has the column of the dot."""
    ((_, body),) = node.items()
    while "refr" in body:
        ((_, body),) = body["refr"].items()
    span: Node | None = body.get("span")
    return span


def _parts(rule: Node) -> list[Any]:
    """What a rule uses: everything but its own name."""
    if "head" not in rule:
        return [rule["value"]]
    head = next(iter(rule["head"].values()))
    return [head.get("assign"), head.get("key"), rule["bodies"]]


def _references(node: Any) -> Iterator[tuple[Path, bool]]:
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
    elif isinstance(node, dict):
        for key, child in node.items():
            if key in ("Var", "RefDot", "RefBrack"):
                yield _chain({key: child})
                yield from _inside(key, child)
            elif not (key == "refr" and "as" in node):  # what `with` replaces isn't used
                yield from _references(child)


def _inside(kind: str, body: Node) -> Iterator[tuple[Path, bool]]:
    """What is used inside the brackets of a reference."""
    while kind in ("RefDot", "RefBrack"):
        if kind == "RefBrack":
            yield from _references(body["index"])
        ((kind, body),) = body["refr"].items()
    if kind != "Var":
        yield from _references({kind: body})


def _find(node: Any, wanted: str) -> Iterator[Node]:
    if isinstance(node, list):
        for item in node:
            yield from _find(item, wanted)
    elif isinstance(node, dict):
        for key, child in node.items():
            if key == wanted:
                yield child
            yield from _find(child, wanted)


def _variables(node: Any) -> set[str]:
    return {str(variable["value"]) for variable in _find(node, "Var")}


def _function_arguments(node: Node) -> set[str]:
    head = node.get("head", {})
    return _variables(head["Func"]["args"]) if "Func" in head else set()


def _settled_names(node: Node) -> set[str]:
    """Names with one value by the time they are used: arguments and left sides of `:=`."""
    return _function_arguments(node) | {
        name for assign in _find(node, "AssignExpr") if assign["op"] == "ColEq" for name in _variables(assign["lhs"])
    }


def _bound_names(node: Node, text: bytes) -> set[str]:
    """Names that are the rule's own wherever they stand in it."""
    names = _settled_names(node) | _variables(node.get("args", []))
    for some in _find(node, "SomeIn"):
        names |= _variables(some["key"]) | _variables(some["value"])
    spans = [span for some in _find(node, "SomeVars") for span in some["vars"]]
    spans += [span for every in _find(node, "Every") for span in (every["key"], every["value"]) if span]
    return names | {text[span["start"] : span["end"]].decode() for span in spans}


def _constant(node: Node) -> Any:
    """The one constant that every body of this rule gives, as canonical text; `_NO_VALUE` when there is none."""
    head = next(iter(node["head"].values()))
    values = []
    for body in node["bodies"] or [{"assign": None, "is_else": False}]:
        assign = body["assign"] if body.get("is_else") else head.get("assign")
        values.append("true" if assign is None else _literal(assign["value"]))
    return values[0] if all(value is not _NO_VALUE and value == values[0] for value in values) else _NO_VALUE


def _literal(node: Node) -> Any:
    ((kind, body),) = node.items()
    if kind in _LITERALS:
        return json.dumps(body.get("value"))
    if kind in ("Array", "Set"):
        items = [_literal(item) for item in body["items"]]
        return _NO_VALUE if _NO_VALUE in items else f"{kind}[{','.join(items)}]"
    if kind == "Object":
        fields = [(_literal(key), _literal(value)) for _, key, value in body["fields"]]
        if any(_NO_VALUE in field for field in fields):
            return _NO_VALUE
        return "{" + ",".join(f"{key}:{value}" for key, value in sorted(fields)) + "}"
    return _NO_VALUE


def _cycle(start: Path, edges: dict[Path, set[Path]], done: set[Path]) -> list[Path]:
    """A cycle that `start` leads to, or nothing; iterative, since a policy may be deep."""
    way: list[Path] = []
    on_way: set[Path] = set()
    stack: list[tuple[Path, Iterator[Path]]] = [(start, iter(sorted(edges[start])))] if start not in done else []
    if stack:
        way.append(start)
        on_way.add(start)
    while stack:
        path, rest = stack[-1]
        for following in rest:
            if following in on_way:
                return [*way[way.index(following) :], following]
            if following not in done:
                stack.append((following, iter(sorted(edges[following]))))
                way.append(following)
                on_way.add(following)
                break
        else:
            stack.pop()
            way.pop()
            on_way.discard(path)
            done.add(path)
    return []
