"""Every rule against its streams; the same alerts whatever happens to the stream on its way."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.detection.engine import Engine
from rempart.detection.model import Alert
from rempart.detection.ruleset import BUILT_IN, Ruleset, load
from rempart.detection.streams import FixedPlaces, Stream, missing_streams, run_stream, streams_of

RULES = load([BUILT_IN])
STREAMS = streams_of([BUILT_IN])


def alerts_of(stream: Stream, rules: Ruleset = RULES) -> list[Alert]:
    return run_stream(stream, rules)[1]


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: f"{stream.rule}: {stream.name}")
def test_a_stream_gives_what_it_says(stream: Stream) -> None:
    result, alerts = run_stream(stream, RULES)
    assert dict(result.got) == dict(stream.gives)
    known = {event["id"] for event in stream.events}
    for alert in alerts:
        assert alert.evidence
        assert set(alert.evidence) <= known
        assert alert.first <= alert.last


def test_every_rule_that_alerts_has_a_stream_that_does_and_one_that_does_not() -> None:
    assert missing_streams(RULES, STREAMS) == []


def test_a_rule_without_streams_is_told() -> None:
    assert "brute_force has no stream that makes it alert" in missing_streams(RULES, [])


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(STREAMS), st.data())
def test_a_restart_at_any_event_changes_nothing(stream: Stream, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(stream.events)))
    whole = alerts_of(stream)
    RULES.enrichment.use(FixedPlaces(stream.places))
    first = Engine(RULES)
    alerts = [alert for event in stream.events[:cut] for alert in first.take_own(event)]
    second = Engine(RULES)
    second.restore(first.snapshot())
    alerts += [alert for event in stream.events[cut:] for alert in second.take_own(event)]
    assert alerts == whole


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([stream for stream in STREAMS if len(stream.events) < 200]), st.data())
def test_events_that_come_again_change_nothing(stream: Stream, data: st.DataObject) -> None:
    RULES.enrichment.use(FixedPlaces(stream.places))
    engine = Engine(RULES)
    alerts = []
    for index, event in enumerate(stream.events):
        alerts += engine.take_own(event)
        again = data.draw(st.integers(0, index))
        assert engine.take_own(stream.events[again]) == []
    assert alerts == alerts_of(stream)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(8)))
def test_a_spray_is_found_in_whatever_order_its_events_arrive(order: list[int]) -> None:
    spray = next(stream for stream in STREAMS if stream.gives == {"password_spray": 1})
    engine = Engine(RULES)
    events = [{**spray.events[index], "source": f"people-{index}"} for index in order]
    assert Counter(alert.rule for event in events for alert in engine.take_own(event)) == {"password_spray": 1}
