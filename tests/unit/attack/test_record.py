"""Evidence is an event of the attack's own kind and time, from its own address where there is one."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.attack.naive import naive_system

from rempart.attack.campaign import run
from rempart.attack.model import Actor, Attack, Finding, Outcome, Trace, blocked, got_through, refused
from rempart.attack.record import Record
from rempart.attack.wire import NoAnswer, Reply
from rempart.kernel.errors import Unavailable

TRACE = Trace(("mesh.handshake_refused",))


def event(id: str, at: float, ip: str = "127.0.1.9", type: str = TRACE.types[0]) -> dict[str, Any]:
    return {
        "id": id,
        "type": type,
        "at": at * 1000,
        "ip": ip,
        "request_id": f"req-{id}",
        "details": {"decision": f"dec-{id}"},
    }


def record(*events: dict[str, Any]) -> Record:
    return Record(None, 0.0, list(reversed(events)))  # type: ignore[arg-type]  # nothing is asked of the scene


def test_the_attacks_own_address_comes_first_and_others_will_do() -> None:
    seen = record(event("early", 90), event("other", 100), event("own", 100.5, "127.0.1.2"), event("late", 120))
    own = seen.by_trace(TRACE, 100, 101, frozenset({"127.0.1.2"}))
    assert own is not None
    assert own["id"] == "own"
    other = seen.by_trace(TRACE, 100, 101, frozenset())
    assert other is not None
    assert other["id"] == "other"


@pytest.mark.parametrize("trace", [Trace(("people.login",)), Trace(TRACE.types, "nowhere")])
def test_an_event_of_another_kind_is_no_evidence(trace: Trace) -> None:
    assert record(event("one", 100)).by_trace(trace, 100, 101, frozenset()) is None


@pytest.mark.parametrize("id", ["one", "req-one", "dec-one"])
def test_an_event_is_found_by_its_own_its_requests_and_its_decisions_id(id: str) -> None:
    found = record(event("zero", 99), event("one", 100)).by_id(id)
    assert found is not None
    assert found["id"] == "one"


def test_a_broken_attack_proves_nothing_and_a_crash_is_no_defence() -> None:
    def broken(error: Exception) -> Any:
        def fail(scene: object) -> Outcome:
            raise error

        return fail

    runs = {
        "S-no-answer": broken(NoAnswer("closed")),
        "S-unavailable": broken(Unavailable("down", "down")),
        "S-bug": broken(KeyError("x")),
        "S-crash": lambda scene: refused(Reply(500), 401, 403),
        "S-through": lambda scene: got_through("in"),
        "S-untried": lambda scene: Outcome(None, "no"),
        "S-blocked": lambda scene: blocked("403", "policy", "the kernel's word"),
        "S-unrecorded": lambda scene: blocked("403", "policy", "dec_nowhere"),
    }
    attacks = [Attack(id, Actor.OUTSIDER, id, "x", "y", function) for id, function in runs.items()]
    told: list[Finding] = []
    with naive_system() as scene:
        report = run(scene, attacks, told.append)
    verdicts = {finding.attack.id: finding.blocked for finding in report.findings}
    assert {id for id, verdict in verdicts.items() if verdict} == {"S-blocked", "S-unrecorded"}
    assert verdicts["S-untried"] is None
    assert (report.tried, report.blocked, len(told)) == (7, 2, 8)
    evidence = {finding.attack.id: finding.evidence for finding in report.findings}
    assert (evidence["S-blocked"], evidence["S-unrecorded"]) == ("the kernel's word", "not in the record")
    assert report.document()["attacks"][0]["stride"] == "S"
