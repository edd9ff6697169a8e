"""Spans of decisions: of the sampled ones alone, whole once the record is on disk."""

from __future__ import annotations

from rempart.policy.counters import Counters
from rempart.policy.record import Ruling
from rempart.policy.traces import DecisionTraces
from rempart.telemetry.spans import Span

TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Kept(list[Span]):
    def put(self, span: Span) -> None:
        self.append(span)


def ruling(flags: str) -> Ruling:
    fields = {"reason": "", "policy_version": "v", "method": "GET", "path": "/wallet", "quoted_path": '"/wallet"'}
    found = Ruling(id="dec_1", at=1.0, pep="gateway", allow=True, rule="owner", service="wallet", **fields)
    found.traceparent, found.person, found.ip = f"00-{TRACE}-{ABOVE}-{flags}", "usr_1", "192.0.2.1"
    return found


def test_a_sampled_decision_is_told_once_its_record_is_on_disk() -> None:
    kept, counters = Kept(), Counters()
    traces = DecisionTraces(kept, counters)
    traces.decided(ruling("01"), 0.0003)
    assert kept == []
    traces.recorded()
    decide, record = kept
    assert (decide.trace_id, decide.parent_id, record.parent_id) == (TRACE, ABOVE, decide.span_id)
    assert decide.start_ns <= record.start_ns <= record.end_ns == decide.end_ns
    assert decide.attributes["rempart.decision"] == "dec_1"
    assert not {"usr_1", "192.0.2.1", "/wallet"} & set(map(str, decide.attributes.values()))
    assert [(index, example[0]) for index, example in counters.examples.items()] == [(2, TRACE)]
    traces.recorded()
    assert len(kept) == 2


def test_what_is_not_sampled_makes_neither_span_nor_example() -> None:
    kept, counters = Kept(), Counters()
    traces = DecisionTraces(kept, counters)
    traces.decided(ruling("00"), 0.0003)
    traces.recorded()
    assert (kept, counters.examples) == ([], {})


def test_what_could_not_be_recorded_was_refused_whatever_was_decided() -> None:
    kept = Kept()
    traces = DecisionTraces(kept, Counters())
    traces.decided(ruling("01"), 0.0003)
    traces.recorded("audit_unavailable")
    told = kept[0].attributes
    assert (told["rempart.outcome"], told["rempart.code"]) == ("deny", "audit_unavailable")
    assert kept[0].failed
