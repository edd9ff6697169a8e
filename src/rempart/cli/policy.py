"""`rempart policy`: test, check, try, explain, replay and reload what decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rempart.kernel.errors import BadInput, RempartError

from .output import print_json, print_table, say
from .state import JsonOption, StateOption, call, state_dir

if TYPE_CHECKING:
    from rempart.policy.model import Bundle, Report

app = typer.Typer(no_args_is_help=True, help="Test, check, explain and reload policies")
Directory = Annotated[Path, typer.Argument(help="A policy directory: .rego files, tests beside them, data.json")]
Entrypoint = Annotated[
    str | None, typer.Option(help="The rule that is asked; default: what the running PDP asks", show_default=False)
]
Limit = Annotated[int, typer.Option(min=1, help="How many recorded decisions, the latest first")]


def _given(state: Path) -> dict[str, Any]:
    """What the running PDP puts under data.rempart; a small stand-in when nothing runs."""
    from rempart.policy.given import given_data

    try:
        return dict(call(state, "pdp", "GET", "/policy/given", timeout=3))
    except RempartError:
        return given_data({"trust_domain": "example.test", "gateway": "spiffe://example.test/rempart/gateway"})


def _asked(entrypoint: str | None, state: Path) -> str:
    from rempart.policy.bundle import DEFAULT_ENTRYPOINT

    if entrypoint:
        return entrypoint
    try:
        return str(call(state, "pdp", "GET", "/policy", timeout=3)["entrypoint"])
    except RempartError:
        return DEFAULT_ENTRYPOINT


def _tried(directory: Path, entrypoint: str | None, state: Path) -> tuple[Bundle, Report]:
    from rempart.backends.regorus_trial import RegorusTrial
    from rempart.policy.bundle import read_directory

    bundle = read_directory(directory, _asked(entrypoint, state))
    return bundle, RegorusTrial().run_now(bundle, _given(state))


@app.command("test")
def run_tests(
    directory: Directory = Path("policy"),
    entrypoint: Entrypoint = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the `test_` rules on both evaluators. Exit 1 when one fails, 2 when the policy can't be loaded."""
    bundle, report = _tried(directory, entrypoint, state_dir(state))
    passed = sum(outcome.passed for outcome in report.tests)
    if as_json:
        print_json(_document(bundle, report))
    elif not report.faults:
        rows = [("pass" if t.passed else "FAIL", t.name.removeprefix("data."), t.reason) for t in report.tests]
        if rows:
            print_table(("", "test", "why"), rows)
        say(f"{passed} of {len(report.tests)} passed; {report.inputs_compared} inputs asked of both evaluators")
    if report.faults:
        _say_faults(directory, bundle, report)
        raise SystemExit(2)
    if passed < len(report.tests):
        raise SystemExit(1)


@app.command()
def check(
    directory: Directory = Path("policy"),
    entrypoint: Entrypoint = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """All that a PDP checks before it takes a policy. Exit 2 with file:line:column for faults, 1 for failed tests."""
    bundle, report = _tried(directory, entrypoint, state_dir(state))
    if as_json:
        print_json(_document(bundle, report))
    elif report.ok:
        how = _EVALUATORS[report.evaluator] + (f" ({report.why})" if report.why else "")
        say(f"{directory} is good: version {bundle.short}, answered by {how}; {report.summary()}")
    elif report.faults:
        _say_faults(directory, bundle, report)
    else:
        say(f"{report.summary()}\n  → see `rempart policy test {directory}`")
    if not report.ok:
        raise SystemExit(2 if report.faults else 1)


@app.command("eval")
def evaluate(
    file: Annotated[Path, typer.Argument(metavar="INPUT.json", help="A policy input; `-` is stdin")],
    directory: Annotated[
        Path | None, typer.Option("--dir", help="A policy directory instead of the running PDP")
    ] = None,
    entrypoint: Entrypoint = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a policy about an input. Nothing is recorded. Exit 1 when it says no."""
    document = _read_json(file)
    question = document["input"] if isinstance(document, dict) and set(document) == {"input"} else document
    if not isinstance(question, dict):
        raise BadInput("bad_input", f"{file} holds no JSON object", 'give the policy input, or {"input": {…}}')
    if directory is None:
        answer = call(state_dir(state), "pdp", "POST", "/policy/eval", {"input": question})
    else:
        answer = _ask_directory(directory, entrypoint, state_dir(state), [question])[0]
    _print_answer(answer, as_json)
    if not answer["allow"]:
        raise SystemExit(1)


@app.command()
def reload(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Have the PDP read its policy directory now. Exit 1 when the policy is refused; the one in force then stays."""
    answer = call(state_dir(state), "pdp", "POST", "/policy/reload", timeout=60)
    if as_json:
        print_json(answer)
    else:
        how = _EVALUATORS[answer["evaluator"]]
        say(f"policy {answer['version']} decides, answered by {how}; {answer['tests']} tests passed")


@app.command()
def explain(
    decision: Annotated[str, typer.Argument(metavar="ID", help="The x-rempart-decision of an answer")],
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which rule of which policy version decided, why, and on what input."""
    where = state_dir(state)
    event = _event(where, decision)
    own = event["unmapped"]["rempart"]
    if own.get("type") != "decision":
        raise BadInput("not_a_decision", f"{decision} is no decision", "see `rempart audit show`")
    details = own.get("details", {})
    answer: dict[str, Any] = {
        "id": own["id"],
        "allow": own["success"],
        "rule": own.get("rule", ""),
        "reason": own.get("reason", ""),
        "policy_version": own.get("policy_version", ""),
        "status": own.get("status"),
        "code": own.get("code", ""),
        "pep": own.get("pep", ""),
        "at": own.get("at"),
        "request": f"{own.get('method', '')} {own.get('path', '')}",
        "person": own.get("person", ""),
        "workload": own.get("workload", ""),
        "input": details.get("input"),
    }
    if "token_failure" in details:
        answer["token_failure"] = details["token_failure"]
    answer["now"] = _same_question(where, details.get("input"))
    if as_json:
        print_json(answer)
        return
    _print_explained(answer)


@app.command()
def replay(
    directory: Directory = Path("policy"),
    limit: Limit = 1000,
    entrypoint: Entrypoint = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask another policy what was recorded, and list what would change. Exit 1 when something would."""
    where = state_dir(state)
    recorded = _decisions(where, limit)
    events = [own for own in recorded if own.get("details", {}).get("input")]
    answers = _ask_directory(directory, entrypoint, where, [own["details"]["input"] for own in events])
    changes = [
        {
            "id": own["id"],
            "request": f"{own.get('method', '')} {own.get('path', '')}",
            "person": own.get("person", ""),
            "workload": own.get("workload", ""),
            "was": "allow" if own["success"] else "deny",
            "would_be": "allow" if answer["allow"] else "deny",
            "rule": answer["rule"],
        }
        for own, answer in zip(events, answers, strict=True)
        if own["success"] != answer["allow"]
    ]
    if as_json:
        print_json({"replayed": len(events), "skipped": len(recorded) - len(events), "changes": changes})
    else:
        if changes:
            print_table(tuple(changes[0]), [tuple(change.values()) for change in changes])
        skipped = len(recorded) - len(events)
        apart = f"; left out {skipped} that were refused before policy was asked" if skipped else ""
        say(f"{len(events)} decisions replayed, {len(changes)} would change{apart}")
    if changes:
        raise SystemExit(1)


@app.command()
def unused(limit: Limit = 10_000, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Rule names that the policy in force could give and that decided nothing in the record."""
    from rempart.backends.rego_names import named_rules
    from rempart.policy.model import PolicyFile

    where = state_dir(state)
    documents = call(where, "pdp", "GET", "/policy/files")["policies"]
    files = [PolicyFile(document["path"], document["raw"]) for document in documents]
    named = named_rules([file for file in files if not file.is_test and not file.path.startswith("rempart/base")])
    recorded = _decisions(where, limit)
    decided = {str(own.get("rule", "")) for own in recorded}
    silent = [rule for rule in named if rule.name not in decided]
    if as_json:
        rows = [{"rule": rule.name, "file": rule.file, "line": rule.line} for rule in silent]
        print_json({"unused": rows, "named": len(named), "decisions": len(recorded)})
        return
    if silent:
        print_table(("rule", "where"), [(rule.name, f"{rule.file}:{rule.line}") for rule in silent])
    say(f"{len(silent)} of {len(named)} named rules decided nothing in the last {len(recorded)} decisions")


def _document(bundle: Bundle, report: Report) -> dict[str, Any]:
    import msgspec

    return {"ok": report.ok, "version": bundle.short, **msgspec.to_builtins(report)}


_EVALUATORS = {"rvm": "the RVM", "interpreter": "the interpreter"}


def _say_faults(directory: Path, bundle: Bundle, report: Report) -> None:
    """Each with its line of the file, as compilers do."""
    texts = {file.path: file.text.splitlines() for file in bundle.files}
    for fault in report.faults:
        lines = texts.get(fault.file, [])
        mine = fault.file in texts and not fault.file.startswith("rempart/")
        say(f"{directory / str(fault)}" if mine else str(fault))
        if 0 < fault.line <= len(lines):
            shown = lines[fault.line - 1].replace("\t", " ")[:160]
            say(f"    {shown}\n    {' ' * (min(fault.column, 160) - 1)}^")
    say(f"  → correct it, then `rempart policy check {directory}`")


def _print_explained(answer: dict[str, Any]) -> None:
    from rempart.kernel.clock import rfc3339

    said = "allow" if answer["allow"] else "deny"
    lines = [("decision", f"{answer['id']}: {said}"), ("rule", answer["rule"]), ("reason", answer["reason"])]
    lines += [("policy", answer["policy_version"]), ("asked by", answer["pep"]), ("request", answer["request"])]
    lines += [("at", rfc3339(answer["at"] / 1000)), ("status", answer["status"]), ("code", answer["code"])]
    lines += [("person", answer["person"]), ("workload", answer["workload"])]
    if now := answer["now"]:
        again = "allow" if now["allow"] else "deny"
        lines.append(("today", f"policy {now['policy_version']} says {again}: {now['rule']}"))
    for name, value in lines:
        if value:
            print(f"{name:<11} {value}")
    if answer["input"]:
        print("input")
        for name, value in answer["input"].items():
            print(f"  {name:<11} {json.dumps(value, ensure_ascii=False)}")


def _read_json(file: Path) -> Any:
    import sys

    from rempart.kernel import strict_json

    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise BadInput("no_such_file", f"{file} can't be read: {error.strerror}", "name a readable file") from None
    try:
        return strict_json.loads(raw)
    except BadInput as error:
        raise BadInput(error.code, f"{file}: {error.reason}", "give one policy input as JSON") from None


def _ask_directory(directory: Path, entrypoint: str | None, state: Path, questions: list[Any]) -> list[dict[str, Any]]:
    import msgspec

    from rempart.backends.regorus_engine import RegorusEngine
    from rempart.policy.verdict import read_verdict

    bundle, report = _tried(directory, entrypoint, state)
    if report.faults:
        _say_faults(directory, bundle, report)
        raise SystemExit(2)
    evaluator = RegorusEngine().prepare(bundle, _given(state), report.evaluator)
    answers = []
    for question in questions:
        try:
            answer = msgspec.to_builtins(read_verdict(evaluator.evaluate(json.dumps(question))))
        except RempartError as error:
            answer = {"allow": False, "rule": "pdp.error", "reason": error.reason, "code": error.code, "status": 503}
        answers.append({**answer, "policy_version": bundle.short})
    return answers


def _print_answer(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        print_table(
            ("decision", "allow" if answer["allow"] else "deny"), [(k, v) for k, v in answer.items() if k != "allow"]
        )


def _event(state: Path, decision: str) -> dict[str, Any]:
    if not decision.replace("_", "").isalnum():
        raise BadInput("bad_id", f"{decision!r} is not a decision id", "take it from x-rempart-decision")
    event: dict[str, Any] = call(state, "sequencer", "GET", f"/events/{decision}")["event"]
    return event


def _decisions(state: Path, limit: int) -> list[dict[str, Any]]:
    """Rempart's own part of the latest decisions."""
    found: list[dict[str, Any]] = []
    before = ""
    while len(found) < limit:
        page = call(state, "sequencer", "GET", f"/search?type=decision&limit={min(1000, limit - len(found))}{before}")
        found += page["events"]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    return found


def _same_question(state: Path, question: Any) -> dict[str, Any] | None:
    if not question:
        return None
    try:
        answer: dict[str, Any] = call(state, "pdp", "POST", "/policy/eval", {"input": question}, timeout=5)
    except RempartError:
        return None
    return answer
