"""What models may learn from, and how little of it one principal can decide."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models_support import DAY, plain_row

from rempart.detection.models.samples import LEAST_EACH, MOST_SHARE, NEWCOMER, TRIMMED, Samples

HOUR = 3600.0


def filled(principals: int = 20, each: int = 60) -> Samples:
    samples = Samples()
    for n in range(principals * each):
        samples.add(plain_row(n, f"person:usr_{n % principals}", at=1000.0 + n * 600))
    return samples


NOW = 1000.0 + 20 * 60 * 600 + DAY


def test_rows_are_chosen_oldest_first_and_the_last_hour_waits() -> None:
    samples = filled()
    samples.add(plain_row(10**6, "person:usr_0", at=NOW - HOUR / 2))
    chosen = samples.choose(NOW)
    assert [row.at for row in chosen.rows] == sorted(row.at for row in chosen.rows)
    assert len(chosen.rows) == 1200
    assert chosen.left_out["recent"] == 1


def test_accounts_that_are_new_teach_nothing() -> None:
    samples = filled()
    for n in range(5000):
        samples.add(plain_row(10**6 + n, f"person:bot_{n}", at=NOW - 2 * DAY))
    chosen = samples.choose(NOW)
    assert not any(row.principal.startswith("person:bot") for row in chosen.rows)
    assert chosen.left_out["newcomers"] > 1000


def test_one_principal_teaches_no_more_than_the_middle_one_of_all() -> None:
    samples = filled()
    for n in range(400):
        samples.add(plain_row(10**6 + n, "person:eve", at=1000.0 + n))
    chosen = samples.choose(NOW)
    own = sum(row.principal == "person:eve" for row in chosen.rows)
    assert own == max(LEAST_EACH, int(1600 * MOST_SHARE), 60)
    assert chosen.left_out["share"] == 400 - own


def test_what_an_alert_rests_on_and_its_principal_around_it_is_left_out_also_what_comes_late() -> None:
    samples = filled(principals=2)
    first = 1000.0 + 600 * 30
    samples.alert(["person:usr_0"], ["evt_31"], first, first)
    samples.add(plain_row(10**6, "person:usr_0", at=first + 60))
    left = {row.id for row in samples.choose(NOW).rows}
    assert "evt_31" not in left
    assert "evt_30" not in left
    assert "evt_1000000" not in left
    assert "evt_33" in left


def test_nothing_is_learnt_while_attacks_run() -> None:
    samples = filled()
    for n in range(3):
        samples.attack(1000.0 + 600 * (100 + n))
    left = {row.at for row in samples.choose(NOW).rows}
    assert not any(1000.0 + 600 * 99 <= at <= 1000.0 + 600 * 103 for at in left)


def test_rows_rated_high_are_left_out_but_a_change_of_everybodys_ways_is_learnt() -> None:
    samples = Samples()
    for n in range(1000):
        samples.add(plain_row(n, f"person:usr_{n % 20}", at=1000.0 + n * 600), high=n >= 500)
    chosen = samples.choose(NOW)
    assert chosen.left_out["rated high"] == int(1000 * TRIMMED)
    assert len(chosen.rows) == 980


def test_a_row_counts_once_and_the_erased_are_forgotten() -> None:
    samples = filled()
    before = len(samples)
    samples.add(plain_row(0, "person:usr_0", at=1000.0))
    assert len(samples) == before
    samples.erase("person:usr_0")
    assert len(samples) == before - 60
    assert not any(row.principal == "person:usr_0" for row in samples.since(0))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 10**6)), max_size=200), st.integers(1, 20))
def test_it_stays_bounded_and_survives_a_restart(told: list[tuple[int, int]], total: int) -> None:
    samples = Samples(total=total, each=4, principals=5)
    for n, (who, at) in enumerate(told):
        samples.add(plain_row(n, f"person:usr_{who}", at=float(at + 1)))
    assert len(samples) <= total
    copy = Samples(total=total, each=4, principals=5)
    copy.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(samples.snapshot())))
    assert copy.choose(1e7).rows == samples.choose(1e7).rows
    assert len(copy) == len(samples)


def test_a_flood_of_accounts_pushes_out_whoever_was_quiet_longest_and_stays_bounded() -> None:
    samples = Samples(total=500, each=50, principals=20)
    for n in range(3000):
        samples.add(plain_row(n, f"person:usr_{n}", at=float(n)))
    assert len(samples) == 20


@pytest.mark.parametrize("age", [NEWCOMER - 1, NEWCOMER + 1])
def test_a_newcomer_is_one_by_when_they_were_first_seen(age: float) -> None:
    samples = Samples()
    for n in range(100):
        samples.add(plain_row(n, at=NOW - age + n))
    assert bool(samples.choose(NOW).rows) == (age > NEWCOMER)
