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
Entrypoint = Annotated[str, typer.Option(help="The rule that is asked")]
_ENTRYPOINT = "data.authz.decision"


def _given(state: Path) -> dict[str, Any]:
    """What the running PDP puts under data.rempart; a small stand-in when nothing runs."""
    from rempart.policy.given import given_data

    try:
        return dict(call(state, "pdp", "GET", "/policy/given", timeout=3))
    except RempartError:
        return given_data({"trust_domain": "example.test", "gateway": "spiffe://example.test/rempart/gateway"})


def _tried(directory: Path, entrypoint: str, state: Path) -> tuple[Bundle, Report]:
    from rempart.backends.regorus_trial import RegorusTrial
    from rempart.policy.bundle import read_directory

    bundle = read_directory(directory, entrypoint)
    return bundle, RegorusTrial().run_now(bundle, _given(state))


@app.command("test")
def run_tests(
    directory: Directory = Path("policy"),
    entrypoint: Entrypoint = _ENTRYPOINT,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the `test_` rules on both evaluators. Exit 1 when one fails, 2 when the policy can't be loaded."""
    bundle, report = _tried(directory, entrypoint, state_dir(state))
    passed = sum(outcome.passed for outcome in report.tests)
    if as_json:
        print_json(_document(bundle, report))
    else:
        rows = [("pass" if t.passed else "FAIL", t.name.removeprefix("data."), t.reason) for t in report.tests]
        if rows:
            print_table(("", "test", "why"), rows)
        say(f"{passed} of {len(report.tests)} passed; {report.inputs_compared} inputs asked of both evaluators")
    _say_faults(report)
    if report.faults:
        raise SystemExit(2)
    if passed < len(report.tests):
        raise SystemExit(1)


@app.command()
def check(
    directory: Directory = Path("policy"),
    entrypoint: Entrypoint = _ENTRYPOINT,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """All that a PDP checks before it takes a policy. Exit 2 with file:line:column when it would refuse it."""
    bundle, report = _tried(directory, entrypoint, state_dir(state))
    if as_json:
        print_json(_document(bundle, report))
    elif report.ok:
        how = "the RVM" if report.evaluator == "rvm" else f"the interpreter ({report.why})"
        say(f"{directory} is good: version {bundle.short}, answered by {how}; {report.summary()}")
    else:
        _say_faults(report)
        if not report.faults:
            say(report.summary())
    if not report.ok:
        raise SystemExit(2)


@app.command("eval")
def evaluate(
    file: Annotated[Path, typer.Argument(metavar="INPUT.json", help="A policy input; `-` is stdin")],
    directory: Annotated[
        Path | None, typer.Option("--dir", help="A policy directory instead of the running PDP")
    ] = None,
    entrypoint: Entrypoint = _ENTRYPOINT,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a policy about an input. Nothing is recorded. Exit 1 when it says no."""
    document = _read_json(file)
    question = document["input"] if isinstance(document, dict) and set(document) == {"input"} else document
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
        say(
            f"policy {answer['version']} decides, answered by the {answer['evaluator']}; {answer['tests']} tests passed"
        )


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
        "input": details.get("input"),
    }
    if "token_failure" in details:
        answer["token_failure"] = details["token_failure"]
    answer["now"] = _same_question(where, details.get("input"))
    if as_json:
        print_json(answer)
        return
    rows = [(name, answer[name]) for name in ("id", "rule", "reason", "policy_version", "pep", "status", "code")]
    print_table(("decision", "allow" if answer["allow"] else "deny"), rows)
    if answer["input"]:
        print_table(("input", ""), [(k, json.dumps(v, ensure_ascii=False)) for k, v in answer["input"].items()])
    if answer["now"]:
        now = answer["now"]
        say(f"asked again, policy {now['policy_version']} says {'allow' if now['allow'] else 'deny'}: {now['rule']}")


@app.command()
def replay(
    directory: Directory = Path("policy"),
    limit: Annotated[int, typer.Option(help="How many recorded decisions, the latest first")] = 1000,
    entrypoint: Entrypoint = _ENTRYPOINT,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask another policy what was recorded, and list what would change. Exit 1 when something would."""
    where = state_dir(state)
    events = [own for own in _decisions(where, limit) if own.get("details", {}).get("input")]
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
        print_json({"replayed": len(events), "changes": changes})
    else:
        if changes:
            print_table(tuple(changes[0]), [tuple(change.values()) for change in changes])
        say(f"{len(events)} decisions replayed, {len(changes)} would change")
    if changes:
        raise SystemExit(1)


@app.command()
def unused(
    limit: Annotated[int, typer.Option(help="How many recorded decisions to look at, the latest first")] = 10_000,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rule names that the policy in force could give and that decided nothing in the record."""
    import re

    where = state_dir(state)
    files = call(where, "pdp", "GET", "/policy/files")["policies"]
    named: dict[str, str] = {}
    for file in files:
        if file["path"].endswith("_test.rego"):
            continue
        for rule in re.findall(r'"rule"\s*:\s*"([^"]+)"', file["raw"]):
            named[rule] = file["path"]
    decided = {str(own.get("rule", "")) for own in _decisions(where, limit)}
    rows = sorted((rule, path) for rule, path in named.items() if rule not in decided)
    if as_json:
        print_json({"unused": [{"rule": rule, "file": path} for rule, path in rows], "named": len(named)})
    else:
        print_table(("rule", "file"), rows)
        say(f"{len(rows)} of {len(named)} named rules decided nothing in the last {limit} decisions")


def _document(bundle: Bundle, report: Report) -> dict[str, Any]:
    import msgspec

    return {"ok": report.ok, "version": bundle.short, **msgspec.to_builtins(report)}


def _say_faults(report: Report) -> None:
    for fault in report.faults:
        say(str(fault))


def _read_json(file: Path) -> Any:
    import sys

    from rempart.kernel import strict_json

    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise BadInput("no_such_file", f"{file} can't be read: {error.strerror}", "name a readable file") from None
    return strict_json.loads(raw)


def _ask_directory(directory: Path, entrypoint: str, state: Path, questions: list[Any]) -> list[dict[str, Any]]:
    import msgspec

    from rempart.backends.regorus_engine import RegorusEngine
    from rempart.policy.verdict import read_verdict

    bundle, report = _tried(directory, entrypoint, state)
    if report.faults:
        raise BadInput("bad_policy", report.summary(), "see `rempart policy check`")
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
        page = call(state, "sequencer", "GET", f"/search?type=decision&limit={min(100, limit - len(found))}{before}")
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
