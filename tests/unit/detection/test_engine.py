"""What the engine keeps, forgets, refuses to believe and says once."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from rempart.detection.engine import FLOOD, Engine, in_words
from rempart.detection.groups import LATE
from rempart.detection.log_clock import LogClock
from rempart.detection.model import MAX_EVIDENCE, read_alert
from rempart.detection.ruleset import BUILT_IN, Ruleset, load
from rempart.kernel.errors import BadInput
from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import encode

RULES = load([BUILT_IN])
BEGINNING = 1_767_225_600_000


def event(n: int, at: float = 0.0, **own: Any) -> dict[str, Any]:
    return {"id": f"evt_{n}", "source": "people", "at": BEGINNING + int(at * 1000), "success": False, **own}


def failed(n: int, at: float = 0.0, account: str = "eml_a", network: str = "203.0.113.7", **own: Any) -> dict[str, Any]:
    return event(n, at, type="people.login_failed", details={"account": account, "network": network}, **own)


def names(engine: Engine, events: list[dict[str, Any]]) -> list[str]:
    return [alert.rule for one in events for alert in engine.take_own(one)]


def test_an_event_as_the_log_has_it() -> None:
    made = Event(type=EventType.TOKEN_REUSED, at=1.0, success=False, person="usr_a", details={"session": "fam_a"})
    (alert,) = Engine(RULES).take(encode(made, "people"))
    assert (alert.rule, alert.evidence, alert.principals) == (
        "refresh_token_reuse",
        (made.id,),
        ("person:usr_a", "process:people", "session:fam_a"),
    )
    assert read_alert(json.loads(json.dumps(alert.document()))) == alert


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"unmapped":{}}',
        b'{"unmapped":{"rempart":{"type":1,"id":2,"at":"x"}}}',
        b"\xff" * 9,
    ],
)
def test_what_is_no_event_is_counted_and_left_alone(payload: bytes) -> None:
    engine = Engine(RULES)
    assert engine.take(payload) == []
    assert engine.counts.unreadable == 1


@pytest.mark.parametrize(
    "value", [None, 1, 1.5, True, [], {}, ["x", ["y"]], {"a": {"b": 1}}, "x" * 70_000, "\x00\ud800"]
)
def test_no_value_of_a_field_breaks_the_engine(value: Any) -> None:
    engine = Engine(RULES)
    fields = (
        "person",
        "ip",
        "details",
        "reason",
        "path",
        "method",
        "workload",
        "service",
        "after",
        "status",
        "code",
        "pep",
    )
    for number, kind in enumerate(EventType):
        if kind != EventType.ALERT_RAISED:
            engine.take_own(event(number, type=str(kind), **dict.fromkeys(fields, value)))
            inner = {"account": value, "network": value, "count": value, "exe": value, "input": {"jwt": {"sid": value}}}
            engine.take_own(event(1000 + number, type=str(kind), details=inner, person=value, pep="gateway"))
    assert engine.counts.unreadable == 0
    engine.restore(json.loads(json.dumps(engine.snapshot())))


def test_the_watch_does_not_watch_itself() -> None:
    engine = Engine(RULES)
    assert names(engine, [event(n, type="alert.raised", source="detector") for n in range(100)]) == []
    assert engine.counts.unreadable == 0


def test_a_rule_that_fires_for_everybody_says_so_and_is_silent() -> None:
    engine = Engine(RULES)
    alerts = [
        alert
        for n in range(200)
        for alert in engine.take_own(event(n, n, type="people.token_reused", person=f"usr_{n}"))
    ]
    assert len(alerts) == FLOOD + 1
    assert alerts[-1].reason.startswith(f"more than {FLOOD} groups within an hour")
    assert engine.counts.suppressed == 200 - FLOOD - 1
    later = engine.take_own(event(999, 2 * 3600, type="people.token_reused", person="usr_z"))
    assert len(later) == 1


def test_one_rules_flood_hides_no_other_rule() -> None:
    engine = Engine(RULES)
    names(engine, [event(n, n, type="people.token_reused", person=f"usr_{n}") for n in range(200)])
    assert names(engine, [event(500, 201, type="people.session_suspect", person="usr_a")]) == ["session_theft"]


def test_groups_are_bounded_and_a_group_that_is_about_to_fire_stays() -> None:
    engine = Engine(RULES, max_groups=100)
    attack = [failed(n, n, "eml_victim") for n in range(9)]
    assert names(engine, attack) == []
    for n in range(90, 3_000):  # a flood of accounts, to have the victim forgotten
        engine.take_own(failed(n, 10 + n / 1000, f"eml_{n}", f"net_{n}"))
    assert all(len(one.groups) <= 100 for one in engine.correlators.values())
    assert engine.correlators["brute_force"].evicted > 0
    assert "brute_force" in names(engine, [failed(5_000, 14, "eml_victim")])


def test_memory_is_what_is_stated() -> None:
    """docs/detections.md: at most 64 entries or four times the threshold for each group, some 400 bytes an entry."""
    engine = Engine(RULES, max_groups=2_000)
    correlator = engine.correlators["brute_force"]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(40_000):
        engine.take_own(failed(n, n / 1000, f"eml_{n % 2_000}", f"net_{n % 50}"))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    held = sum(one.held(group[2]) for one in engine.correlators.values() for group in one.groups.values())
    assert len(correlator.groups) == 2_000
    assert all(one.held(g[2]) <= one.max_cells for one in engine.correlators.values() for g in one.groups.values())
    assert grown < 400 * held + 16_384 * 200  # the second part: ids of recent events


def test_quiet_groups_are_forgotten() -> None:
    engine = Engine(RULES)
    for n in range(50):
        engine.take_own(failed(n, n, f"eml_{n}"))
    for n in range(50, 200):
        engine.take_own(failed(n, 100_000 + n, f"eml_{n}"))
    assert len(engine.correlators["brute_force"].groups) <= 160


def test_an_application_cannot_move_the_clock() -> None:
    engine = Engine(RULES)
    nine = [failed(n, n) for n in range(9)]
    future = event(100, 9_000 * 86_400, type="money.moved", source="sequencer", service="wallet")
    assert names(engine, nine) == []
    engine.take_own(future)
    assert engine.clock.implausible == 1
    assert "brute_force" in names(engine, [failed(9, 9)])


@pytest.mark.parametrize("at", [9_000 * 86_400, -9_000 * 86_400])
def test_nor_can_another_host(at: float) -> None:
    """A host that was taken over tells decisions under its own name, with any time."""
    engine = Engine(RULES)
    assert names(engine, [failed(n, n) for n in range(9)]) == []
    for number in range(3):
        engine.take_own(event(100 + number, at + number, type="decision", source="pdp@join_token/host-b"))
    assert "brute_force" in names(engine, [failed(9, 9)])


def test_what_another_host_tells_late_is_not_taken_for_new() -> None:
    clock = LogClock()
    clock.read("decision", "pdp", 100_000.0)
    assert clock.read("decision", "pdp@join_token/host-b", 20_000.0) == 20_000.0
    assert clock.read("decision", "pdp@join_token/host-b", 200_000.0) == 100_060.0
    assert (clock.now, clock.implausible) == (100_000.0, 1)


def test_a_late_journal_counts_where_it_belongs_and_what_is_too_late_is_counted() -> None:
    engine = Engine(RULES)
    names(engine, [failed(n, n) for n in range(5)])
    engine.take_own(event(50, 1800, type="policy.loaded", source="pdp"))
    assert "brute_force" in names(engine, [failed(100 + n, 10 + n, source="people-2") for n in range(5)])
    engine.take_own(event(51, LATE + 7200, type="policy.loaded", source="pdp"))
    names(engine, [failed(200, 20, source="people-3")])
    assert engine.correlators["brute_force"].late == 1


def test_evidence_is_bounded_and_the_count_is_not() -> None:
    engine = Engine(RULES)
    many = [
        event(n, n, type="decision", success=True, pep="gateway", person="usr_a", method="GET", path="/users")
        | {"success": True}
        for n in range(300)
    ]
    alerts = [alert for one in many for alert in engine.take_own(one)]
    assert [(alert.rule, alert.count, len(alert.evidence)) for alert in alerts] == [("mass_export", 300, MAX_EVIDENCE)]


def test_text_from_outside_is_no_pattern_no_template_and_not_in_an_alert() -> None:
    engine = Engine(RULES)
    evil = "{count.__class__} *?\\ \x1b[31m </script> %s usr@x.example"
    alerts = [alert for n in range(10) for alert in engine.take_own(failed(n, n, evil, evil, reason=evil, person=evil))]
    assert {alert.rule for alert in alerts} == {"brute_force"}
    assert evil not in json.dumps([alert.document() for alert in alerts])


def test_groups_that_look_alike_when_joined_are_two() -> None:
    engine = Engine(RULES)
    common = {"type": "decision", "pep": "gateway", "source": "pdp"}
    engine.take_own(event(1, 1, **common, person="a\x1fb", ip="198.51.100.1", details={"input": {"jwt": {"sid": "c"}}}))
    engine.take_own(event(2, 2, **common, person="a", ip="203.0.113.7", details={"input": {"jwt": {"sid": "b\x1fc"}}}))
    assert engine.counts.alerts["token_from_two_networks"] == 0


def test_a_snapshot_of_another_rule_begins_anew(tmp_path: Path) -> None:
    engine = Engine(RULES)
    names(engine, [failed(n, n) for n in range(9)])
    snapshot = engine.snapshot()
    snapshot["rules"]["brute_force"]["as"] = "something else"
    other = Engine(RULES)
    other.restore(snapshot)
    assert "brute_force" not in names(other, [failed(9, 9)])


@pytest.mark.parametrize("content", [{}, {"clock": [0, {}], "recent": [], "rules": {"brute_force": {}}}, {"clock": 1}])
def test_a_snapshot_that_is_none(content: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="can't be read"):
        Engine(RULES).restore(content)


def test_times_in_words() -> None:
    assert [in_words(s) for s in (0, 1, 60, 90, 600, 3600, 86_400, 90 * 86_400)] == [
        *("no time", "1 second", "1 minute", "90 seconds", "10 minutes", "1 hour", "1 day", "90 days")
    ]


def test_rules_are_compiled_once() -> None:
    assert isinstance(RULES, Ruleset)
    assert {node.rule.name for node in Engine(RULES)._about("people.token_reused")} == {
        "refresh_token_reuse",
        "own_event",
    }


def test_the_rules_know_what_people_says() -> None:
    from rempart.people.login_record import TOO_MANY_CODES

    told = event(1, type="people.login_failed", reason=TOO_MANY_CODES, person="usr_a", details={"account": "usr_a"})
    assert names(Engine(RULES), [told]) == ["codes_exhausted"]
