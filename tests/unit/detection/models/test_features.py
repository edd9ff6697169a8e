"""Rows of features: bounded, repeatable, the same whatever is told twice; what each feature says."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.detection.models.api_features import ApiFeatures, kind_of_path
from rempart.detection.models.model import Row, Subject, digest_of
from rempart.detection.models.staged import BEGIN, staged
from rempart.detection.models.stream import Stream
from rempart.detection.models.time_features import hour_index, hour_of, surprise
from rempart.detection.models.training import features_of
from rempart.detection.ports import Place
from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import encode

HOUR, DAY = 3600.0, 86_400.0


def login(number: int, at: float, **more: Any) -> dict[str, Any]:
    details = {"amr": ["pwd"], "known_place": True, **more.pop("details", {})}
    base = {"id": f"evt_{number}", "type": "people.login", "source": "people", "success": True}
    return {**base, "at": int((BEGIN + at) * 1000), "person": "usr_a", "ip": "10.0.0.1", "details": details, **more}


def named(row: Row, subject: Subject = Subject.LOGINS) -> dict[str, float]:
    return dict(zip((one.name for one in features_of(subject)), row.values, strict=True))


def rows(events: list[dict[str, Any]], subject: Subject = Subject.LOGINS, stream: Stream | None = None) -> list[Row]:
    stream = stream or Stream()
    return [row for event in events for row in stream.rows_of(event, subject)]


def test_everything_is_new_at_the_first_login_and_so_nothing_is() -> None:
    (row,) = rows([login(1, 9 * HOUR)])
    values = named(row)
    assert values["network_new"] == values["country_new"] == 0.0
    assert row.principal == "person:usr_a"


def test_a_new_network_stays_unusual_at_the_second_login_from_it() -> None:
    found = rows([login(n, n * DAY) for n in range(5)] + [login(9, 5 * DAY, ip="203.0.113.9")])
    again = rows(
        [login(n, n * DAY) for n in range(5)] + [login(8 + n, 5 * DAY + n * 60, ip="203.0.113.9") for n in (0, 1)]
    )
    assert named(found[-1])["network_new"] == 1.0
    assert named(again[-1])["network_new"] > 0.99
    assert named(found[-2])["network_new"] < 0.3


def test_refusals_before_a_login_count_within_an_hour_and_for_its_network() -> None:
    refused = [
        login(n, 100.0 * n, type="people.login_failed", success=False, details={"account": "eml_x"}) for n in range(6)
    ]
    (row,) = rows([*refused, login(50, 700)])
    assert named(row)["failures"] == pytest.approx(math.log1p(6))
    assert named(row)["network_failures"] == pytest.approx(math.log1p(6))
    late = rows([*refused, login(50, 700 + 2 * HOUR)])
    assert named(late[0])["failures"] == 0.0


def test_collapsed_refusals_count_as_many_as_they_stand_for() -> None:
    told = login(1, 0, type="people.login_failed", success=False, details={"count": 20})
    assert named(rows([told, login(2, 10)])[0])["failures"] == pytest.approx(math.log1p(20))


def test_an_hour_at_which_somebody_never_came_surprises_more_than_their_own() -> None:
    usual = [login(n, n * DAY + 9 * HOUR) for n in range(20)]
    night, morning = (rows([*usual, login(99, 20 * DAY + h * HOUR)])[-1] for h in (3, 9))
    assert named(night)["own_hour"] > named(morning)["own_hour"] + 3


def test_midnight_has_two_sides_that_lie_together() -> None:
    before, after = (named(rows([login(1, at)])[0]) for at in (DAY - 60, DAY + 60))
    assert math.dist((before["hour_sin"], before["hour_cos"]), (after["hour_sin"], after["hour_cos"])) < 0.01
    assert hour_of(before["hour_sin"], before["hour_cos"]) == pytest.approx(23.98, abs=0.01)


def test_a_weaker_proof_than_usual_shows() -> None:
    strong = [login(n, n * DAY, details={"amr": ["pwd", "otp", "mfa"]}) for n in range(5)]
    values = named(rows([*strong, login(9, 6 * DAY)])[-1])
    assert values["method_new"] == 1.0
    assert values["one_factor"] == 1.0


def test_countries_come_from_the_geo_file() -> None:
    class Places:
        def locate(self, ip: str) -> Place | None:
            return Place("FR" if ip.startswith("10.") else "NZ", 0.0, 0.0)

    events = [login(n, n * DAY) for n in range(3)]
    found = rows([*events, login(9, 4 * DAY, ip="203.0.113.1")], stream=Stream(Places()))
    assert [round(named(row)["country_new"], 2) for row in found] == [0.0, 0.5, 0.33, 1.0]


def test_a_recorded_event_gives_the_row_that_its_fields_give() -> None:
    """The features read what the record holds, not what a test made up."""
    event = Event(
        type=EventType.DECISION, at=BEGIN + 5, success=True, person="usr_a", ip="10.0.0.1", service="wallet",
        details={"pep": "gateway", "method": "POST", "path": "/wallet/7", "status": 200},
    )  # fmt: skip
    stream = Stream()
    for _ in range(3):
        stream.take(encode(_again(event), "pdp"))
    later = Event(type=EventType.PROCESS_STARTED, at=BEGIN + 900, success=True)
    (row,) = stream.rows(encode(later, "supervisor"), Subject.API)
    values = named(row, Subject.API)
    assert values["requests"] == pytest.approx(math.log1p(3))
    assert values["writing"] == 1.0
    assert row.principal == "person:usr_a"


def _again(event: Event) -> Event:
    import dataclasses

    from rempart.kernel.ids import new_id

    return dataclasses.replace(event, id=new_id("dec"))


# -- API use ---------------------------------------------------------------------------------------------------------


def decision(number: int, at: float, **more: Any) -> dict[str, Any]:
    base = {"id": f"dec_{number}", "type": "decision", "source": "pdp", "success": True, "pep": "gateway"}
    about = {"person": "usr_a", "service": "wallet", "method": "GET", "path": "/wallet"}
    return {**base, **about, "at": int((BEGIN + at) * 1000), **more}


def closed(events: list[dict[str, Any]]) -> list[Row]:
    end = max(event["at"] for event in events) / 1000 - BEGIN + 1000
    return rows([*events, decision(10**6, end, person=None)], Subject.API)


def test_a_window_counts_requests_denials_writing_and_networks() -> None:
    events = [
        decision(n, n * 10, success=n % 2 == 0, method="POST" if n < 2 else "GET", ip="10.0.0.1") for n in range(8)
    ]
    (row,) = closed(events)
    values = named(row, Subject.API)
    assert values["requests"] == pytest.approx(math.log1p(8))
    assert values["denied"] == 0.5
    assert values["writing"] == 0.25
    assert values["networks"] == 1.0
    assert row.id == "dec_7"


def test_a_person_counts_at_the_gateway_and_a_workload_at_the_callee() -> None:
    inner = [decision(n, n, pep="wallet", workload="spiffe://bank.example/payment") for n in range(5)]
    assert closed(inner) == []
    (row,) = closed([decision(n, n, pep="wallet", person=None, workload="spiffe://b/x") for n in range(5)])
    assert row.principal == "workload:spiffe://b/x"
    through = [decision(n, n, pep="wallet", person=None, workload="spiffe://b/rempart/gateway") for n in range(5)]
    assert closed(through) == []


def test_paths_and_services_are_new_in_the_window_that_first_shows_them() -> None:
    first = [decision(n, n) for n in range(4)]
    second = [decision(10 + n, 400 + n, path="/wallet" if n < 2 else "/admin") for n in range(4)]
    found = [named(row, Subject.API)["new_paths"] for row in closed(first + second)]
    assert found == [1.0, 0.5]


def test_objects_are_told_apart_and_kinds_of_path_are_not() -> None:
    assert kind_of_path("/users/usr_7/wallet?x=1") == "/users/*/wallet"
    (row,) = closed([decision(n, n, path=f"/users/usr_{n}") for n in range(20)])
    values = named(row, Subject.API)
    assert values["objects"] == pytest.approx(math.log1p(20))
    assert values["paths"] == pytest.approx(math.log1p(1))


def test_windows_are_bounded_and_what_has_no_room_is_counted() -> None:
    features = ApiFeatures()
    for number in range(5000):
        own = decision(number, 1, person=f"usr_{number}")
        features.take(own, "decision", BEGIN + 1, BEGIN + 1)
    assert features.dropped == 5000 - 4096


# -- all of them -----------------------------------------------------------------------------------------------------

anything = st.one_of(
    st.none(), st.integers(), st.floats(), st.text(max_size=6), st.lists(st.text(max_size=3), max_size=3)
)
hostile = st.fixed_dictionaries(
    {
        "id": st.text(max_size=4),
        "type": st.sampled_from(["people.login", "people.login_failed", "decision", "delivery.deployment"]),
        "at": st.one_of(st.floats(-1e18, 1e18), st.integers(-(2**60), 2**60)),
    },
    optional={
        name: st.one_of(anything, st.dictionaries(st.sampled_from(["amr", "release", "before", "after"]), anything))
        for name in ("source", "person", "workload", "operator", "ip", "pep", "path", "service", "success", "details")
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(hostile, max_size=40))
def test_whatever_events_hold_features_are_finite_and_within_their_bounds(events: list[dict[str, Any]]) -> None:
    stream = Stream()
    for event in events:
        stream.take_own(event)
    for subject in Subject:
        bounds = features_of(subject)
        for row in stream.samples[subject].since(-math.inf):
            for feature, value in zip(bounds, row.values, strict=True):
                assert feature.least - 1e-6 <= value <= feature.most + 1e-5, feature.name


@pytest.mark.parametrize("subject", list(Subject))
def test_the_same_events_give_the_same_rows_also_twice_told_and_across_a_restart(subject: Subject) -> None:
    events = [one.own for one in staged(subject, 3, 4)][:3000]
    once = rows(events, subject)
    assert once
    assert rows([event for event in events for _ in (1, 2)], subject) == once
    first, second = Stream(), Stream()
    early = rows(events[: len(events) // 2], subject, first)
    content = msgspec.msgpack.encode(first.snapshot())
    second.restore(msgspec.msgpack.decode(content))
    assert early + rows(events[len(events) // 2 :], subject, second) == once


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_events_that_come_a_little_late_keep_rows_bounded_and_none_is_lost(seed: int) -> None:
    events = [login(n, n * 60.0, person=f"usr_{n % 3}") for n in range(60)]
    chance = random.Random(seed)
    shaken = sorted(events, key=lambda one: one["at"] + chance.uniform(0, 300_000))
    assert len(rows(shaken)) == len(events)
    assert {row.id for row in rows(shaken)} == {event["id"] for event in events}


def test_surprise_is_even_before_anything_is_known() -> None:
    assert surprise([0.0] * 24, 3) == pytest.approx(math.log2(24))


def test_the_hour_is_one_of_24_whatever_the_time() -> None:
    assert [hour_index(at) for at in (-1e-220, 0.0, 3599.9, 3600.0, DAY - 1, DAY, -1.0)] == [0, 0, 0, 1, 23, 0, 23]


def test_a_feature_that_means_something_else_is_another_set_of_features() -> None:
    features = features_of(Subject.LOGINS)
    assert digest_of(features) != digest_of(features[:-1])
    assert len({digest_of(features_of(subject)) for subject in Subject}) == 3


def test_deployments_show_strangers_old_images_and_many_changes() -> None:
    def deployed(number: int, at: float, operator: str = "ana", digest: str = "", changes: int = 1) -> dict[str, Any]:
        before = {f"k{n}": 0 for n in range(50)}
        details = {"release": "wallet", "environment": "prod", "digest": digest or f"sha256:{number}"}
        now = {"before": before, "after": {**before, **{f"k{n}": 1 for n in range(changes)}}}
        base = {**now, "id": f"evt_{number}", "type": "delivery.deployment", "source": "delivery", "success": True}
        return {**base, "at": int((BEGIN + at) * 1000), "operator": operator, "details": details}

    usual = [deployed(n, n * DAY + 10 * HOUR) for n in range(10)]
    found = rows(
        [*usual, deployed(50, 10 * DAY, operator="eve"), deployed(51, 11 * DAY, digest="sha256:3", changes=40)],
        Subject.DEPLOYMENTS,
    )
    stranger, old = (named(row, Subject.DEPLOYMENTS) for row in found[-2:])
    assert stranger["actor_new"] == 1.0
    assert stranger["actor_rare"] == 1.0
    assert old["same_digest"] == 1.0
    assert old["changes"] == pytest.approx(math.log1p(40))
