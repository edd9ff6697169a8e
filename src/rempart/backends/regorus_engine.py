"""Rego by regorus (PyPI `gordon-to-regorus`): an interpreter that is strict, and a virtual machine (RVM) that is fast.

An engine lives on the thread that made it and holds the interpreter lock while it works. A panic of its Rust code
arrives as a BaseException that is no Exception; it is an evaluation that failed, never a crash of ours.
Trusted: it decides. Its owner could allow anything; so it is pinned by hash and sees claims, never tokens.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import regorus

from rempart.kernel.errors import BadInput, Unavailable
from rempart.policy.model import MAIN, Bundle, EvaluatorKind, Fault, PolicyFile, Report, TestOutcome

from . import rego_guards, rego_patterns, rego_syntax
from .rego_edits import applied
from .rego_tests import CAPTURE, Captured, Captures, instrument

_UNDEFINED = '"<undefined>"'
_MAIN_MODULE = """package rempart.main

import rego.v1

decision := data.rempart.base.decision if data.rempart.base.decision
else := {entrypoint}
"""


class RegorusEngine:
    """Implements `policy.ports.PolicyEngine`."""

    def inspect(self, bundle: Bundle, given: Mapping[str, Any]) -> Report:
        try:
            return self._inspect(bundle, given)
        except BadInput as error:
            return Report(faults=(Fault(bundle.entrypoint, 0, 0, error.reason),))
        except RecursionError:
            return Report(faults=(Fault(bundle.entrypoint, 0, 0, "the policy is nested too deep"),))

    def prepare(self, bundle: Bundle, given: Mapping[str, Any], kind: EvaluatorKind) -> Interpreter | Rvm:
        try:
            interpreter = Interpreter(bundle, given)
            if kind == "rvm":
                with contextlib.suppress(rego_guards.Unguarded):  # chosen by an earlier version
                    return Rvm(bundle, given, interpreter)
            return interpreter
        except BaseException as error:
            _reraise_ours(error)
            raise BadInput(
                "bad_policy", f"the policy can't be compiled: {_text(error)}", "see `rempart policy check`"
            ) from None

    def _inspect(self, bundle: Bundle, given: Mapping[str, Any]) -> Report:
        faults = [fault for file in bundle.files if (fault := _parse_fault(file.path, file.text))]
        if faults:
            return Report(faults=tuple(faults))
        engine = _engine(bundle, given, tests=True)
        tree = engine.get_ast_as_json()
        for file, package in rego_syntax.packages(tree).items():
            if package[0] == "rempart" and not file.startswith("rempart/"):
                faults.append(Fault(file, 1, 1, "the package `rempart` is Rempart's own: choose another name"))
        rules = rego_syntax.parse(tree)
        faults += rego_syntax.unknown_functions(rules, _BUILTINS())
        faults += rego_syntax.recursion(rules)
        deciding = [rule for rule in rules if not rule.module.endswith("_test.rego")]
        entry = tuple(bundle.entrypoint.split("."))
        if entry[0] != "data" or not any(rule.path == entry[1:] for rule in deciding):
            faults.append(
                Fault(
                    _place_of(bundle),
                    1,
                    1,
                    f"there is no rule {bundle.entrypoint}, which is asked: add it or set [policy] entrypoint",
                )
            )
        if faults:
            return Report(faults=tuple(faults))
        try:
            interpreter = Interpreter(bundle, given)
        except BaseException as error:
            _reraise_ours(error)
            return Report(faults=(_fault(error, bundle),))
        captures: Captures = []
        tests, unclear = _run_tests(bundle, given, rules, captures)
        why = rego_syntax.why_not_rvm(deciding) or rego_guards.why_not(deciding) or unclear
        if not why:
            try:
                rvm = Rvm(bundle, given, interpreter)
                compared, differing, why = _compare(bundle, given, captures, rvm)
            except BaseException as error:
                _reraise_ours(error)
                why = f"the RVM can't compile it: {_text(error)}"
            else:
                faults += differing
                return Report(tuple(faults), tuple(tests), "interpreter" if why else "rvm", why, compared)
        return Report(tuple(faults), tuple(tests), "interpreter", why)


class Interpreter:
    """Strict: an error inside a builtin fails the evaluation. Implements `policy.ports.Evaluator`."""

    kind: EvaluatorKind = "interpreter"

    def __init__(self, bundle: Bundle, given: Mapping[str, Any]) -> None:
        self.fallbacks = 0
        self._engine = _engine(bundle, given, tests=False)
        self._engine.set_input_json("{}")
        try:
            self._engine.eval_rule_as_json(MAIN)  # analyse all of it now rather than at the first request
        except BaseException as error:
            _reraise_ours(error)
            if "unsafe" in str(error) or "could not find function" in str(error) or "recursion" in str(error):
                raise

    def evaluate(self, input_json: str) -> str:
        try:
            self._engine.set_input_json(input_json)
            result: str = self._engine.eval_rule_as_json(MAIN)
        except BaseException as error:
            _reraise_ours(error)
            raise _failed(error) from None
        return "null" if result == _UNDEFINED else result


class Rvm:
    """Compiled, and limited to 25,000 instructions; beyond, or on any failure, the interpreter answers."""

    kind: EvaluatorKind = "rvm"

    def __init__(self, bundle: Bundle, given: Mapping[str, Any], interpreter: Interpreter) -> None:
        self.fallbacks = 0
        self._patterns = rego_patterns.tables(bundle.data)
        data = self._data({**bundle.data, "rempart": given})
        rules = rego_syntax.parse(_engine(bundle, given, tests=False).get_ast_as_json())
        modules = [(file.path, _for_rvm(file, rules)) for file in bundle.files if not file.is_test]
        modules += [(rego_patterns.MODULE, rego_patterns.TEXT), _main_module(bundle)]
        program = regorus.Program.compile_from_modules(data, modules, [MAIN, bundle.entrypoint])
        self.machine = regorus.Rvm()
        self.machine.load_program(program)
        self.machine.set_data_json(data)
        self._interpreter = interpreter
        self._set_input = self.machine.set_input_json
        self._execute = self.machine.execute_entry_point

    def _data(self, document: dict[str, Any]) -> str:
        given = document.get("rempart")
        ours = {**(given if isinstance(given, dict) else {}), rego_patterns.DATA: self._patterns}
        return json.dumps({**document, "rempart": ours})

    def answers(self, document: dict[str, Any], input_json: str, rules: list[str]) -> list[str | None]:
        """Each rule's value with `document` as data, or None where it gave up. For comparing, never for deciding."""
        self.machine.set_data_json(self._data(document))
        return [_attempt(self.machine.set_input_json, input_json, self._execute, rule) for rule in rules]

    def evaluate(self, input_json: str) -> str:
        try:
            self._set_input(input_json)
            result: str = self._execute(MAIN)
        except BaseException as error:
            _reraise_ours(error)
            self.fallbacks += 1
            return self._interpreter.evaluate(input_json)
        return "null" if result == _UNDEFINED else result


def _reraise_ours(error: BaseException) -> None:
    """Signals and exits go on; all else (PanicException is a BaseException) was the engine's."""
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
        raise error


def _engine(bundle: Bundle, given: Mapping[str, Any], *, tests: bool) -> Any:
    engine = regorus.Engine()
    for file in bundle.files:
        if tests or not file.is_test:
            engine.add_policy(file.path, file.text)
    engine.add_policy(*_main_module(bundle))
    engine.add_data_json(json.dumps({**bundle.data, "rempart": given}))
    return engine


def _for_rvm(file: PolicyFile, rules: list[rego_syntax.Rule]) -> str:
    own = [rule for rule in rules if rule.module == file.path]
    return applied(file.text, [e for rule in own for e in (*rego_guards.edits(rule), *rego_patterns.edits(rule))])


def _main_module(bundle: Bundle) -> tuple[str, str]:
    return "rempart/main.rego", _MAIN_MODULE.replace("{entrypoint}", bundle.entrypoint)


def _place_of(bundle: Bundle) -> str:
    return next(file.path for file in bundle.files if not file.path.startswith("rempart/base"))


def _parse_fault(path: str, text: str) -> Fault | None:
    try:
        regorus.Engine().add_policy(path, text)
    except BaseException as error:
        _reraise_ours(error)
        return _located(str(error), path)
    return None


def _fault(error: BaseException, bundle: Bundle) -> Fault:
    return _located(str(error), bundle.entrypoint)


def _located(message: str, otherwise: str) -> Fault:
    """regorus writes `--> file:line:column`, the line itself, then `error: …`."""
    message = message.split("Stack backtrace")[0]
    words = next((line[6:].strip() for line in message.splitlines() if line.startswith("error:")), "")
    where = next((line[4:].strip() for line in message.splitlines() if line.startswith("-->")), "")
    file, _, place = where.partition(":")
    line, _, column = place.partition(":")
    if file and line.isdigit() and column.isdigit():
        return Fault(file, int(line), int(column), words or "not valid Rego")
    return Fault(otherwise, 0, 0, words or _text(message))


def _text(error: object) -> str:
    lines = [line.strip() for line in str(error).split("Stack backtrace")[0].splitlines() if line.strip()]
    said = next((line[6:].strip() for line in lines if line.startswith("error:")), lines[0] if lines else "it panicked")
    return said[:300]


def _failed(error: BaseException) -> Unavailable:
    return Unavailable(
        "policy_error", f"the policy failed: {_text(error)}", "see `rempart policy explain` and `policy test`"
    )


_known: list[frozenset[str]] = []


def _BUILTINS() -> frozenset[str]:
    """What this build of regorus offers; asked once."""
    if not _known:
        engine = regorus.Engine()
        engine.add_policy("b.rego", "package b\nx := opa.runtime().builtins")
        _known.append(frozenset(json.loads(engine.eval_rule_as_json("data.b.x"))) - frozenset(rego_syntax.IMPURE))
    return _known[0]


def _run_tests(
    bundle: Bundle, given: Mapping[str, Any], rules: list[rego_syntax.Rule], captures: Captures
) -> tuple[list[TestOutcome], str]:
    """Every `test_` rule on the interpreter, noting each input that a `with` puts in; and why that couldn't be done."""
    names = dict.fromkeys(
        ".".join(("data", *rule.path))
        for rule in rules
        if rule.path[-1].startswith("test_") and rule.kind == "complete"
    )
    if not names:
        return [], ""
    unclear = ""
    engine = regorus.Engine()
    engine.add_extension(CAPTURE, 2, Captured(captures))
    for file in bundle.files:
        text = file.text
        if file.is_test:
            text = instrument(file.path, file.text, rules)
            if _parse_fault(file.path, text):
                text, unclear = file.text, f"the inputs of {file.path} can't be told apart from its text"
        engine.add_policy(file.path, text)
    engine.add_policy(*_main_module(bundle))
    engine.add_data_json(json.dumps({**bundle.data, "rempart": given}))
    outcomes = []
    for name in names:
        started = time.perf_counter()
        try:
            value = engine.eval_rule_as_json(name)
            passed = value == "true"
            reason = "" if passed else ("it is undefined" if value == _UNDEFINED else f"it is {value[:200]}")
        except BaseException as error:
            _reraise_ours(error)
            passed, reason = False, _text(error)
        outcomes.append(TestOutcome(name, passed, reason, time.perf_counter() - started))
    return outcomes, unclear


def _compare(bundle: Bundle, given: Mapping[str, Any], captures: Captures, rvm: Rvm) -> tuple[int, list[Fault], str]:
    """Ask both evaluators about every input of the tests; a policy on which they differ isn't safe with either.

    Where only the interpreter fails, as on two values of one rule, it is the one to use: the third value says where.
    """
    faults: list[Fault] = []
    stricter = ""
    seen: set[str] = set()
    base = {**bundle.data, "rempart": dict(given)}
    for where, document, changes in captures:
        key = json.dumps([document, changes], sort_keys=True)
        if key in seen or len(seen) >= 5000:
            continue
        seen.add(key)
        data = _changed(base, changes)
        question = json.dumps(document)
        engine = _engine_with(bundle, json.dumps(data))
        asked = [bundle.entrypoint, MAIN]
        for rule, by_rvm in zip(asked, rvm.answers(data, question, asked), strict=True):
            by_interpreter = _attempt(engine.set_input_json, question, engine.eval_rule_as_json, rule)
            if by_interpreter is None and by_rvm is not None:
                stricter = f"{where[0]}:{where[1]}: the interpreter fails on an input that the RVM answers"
            elif by_interpreter != by_rvm and by_rvm is not None:
                said = f"for this input {rule} is {by_interpreter} by the interpreter, {by_rvm} by the RVM"
                faults.append(Fault(where[0], where[1], where[2], said[:1000]))
                break
    return len(seen), faults, stricter


def _engine_with(bundle: Bundle, data: str) -> Any:
    engine = regorus.Engine()
    for file in bundle.files:
        if not file.is_test:
            engine.add_policy(file.path, file.text)
    engine.add_policy(*_main_module(bundle))
    engine.add_data_json(data)
    return engine


def _attempt(set_input: Callable[[str], None], question: str, run: Callable[[str], str], rule: str) -> str | None:
    """The answer in one line; None when this evaluator gave up, which is a refusal in either."""
    try:
        set_input(question)
        return json.dumps(json.loads(run(rule)), sort_keys=True)
    except BaseException as error:
        _reraise_ours(error)
        return None


def _changed(base: Mapping[str, Any], changes: list[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(base))
    for path, value in changes:
        place = data
        for part in path[:-1]:
            following = place.get(part)
            if not isinstance(following, dict):
                following = place[part] = {}
            place = following
        if path:
            place[path[-1]] = value
        elif isinstance(value, dict):
            data = dict(value)
    return data
