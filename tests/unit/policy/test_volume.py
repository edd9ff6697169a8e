from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.policy.volume import Volume


def test_counts_within_the_last_minute() -> None:
    volume = Volume()
    assert [volume.count("u", 0.0) for _ in range(3)] == [1, 2, 3]
    assert volume.count("u", 30.0) == 4
    assert volume.count("u", 62.0) == 2
    assert volume.count("u", 1000.0) == 1


def test_waiting_says_when_and_counts_nothing() -> None:
    volume = Volume()
    for _ in range(5):
        volume.count("u", 2.0)
    assert volume.wait("u", 2.0, 6) == 0
    wait = volume.wait("u", 2.0, 5)
    assert 55 <= wait <= 60
    assert volume.wait("u", 2.0 + wait, 5) == 0


def test_beyond_a_limit_nothing_is_counted() -> None:
    volume = Volume()
    assert [volume.count("u", 2.0, limit=2) for _ in range(4)] == [1, 2, 0, 0]
    assert volume.count("u", 2.0) == 3
    assert volume.count("u", 61.0, limit=2) == 1


def test_memory_is_bounded_and_the_longest_silent_goes_first() -> None:
    volume = Volume(size=3)
    for name in ("a", "b", "c"):
        volume.count(name, 0.0)
    volume.count("a", 1.0)
    volume.count("d", 1.0)
    assert volume.count("a", 1.0) == 3
    assert volume.count("b", 1.0) == 1


@settings(max_examples=100)
@given(st.lists(st.floats(0, 40), min_size=1, max_size=80))
def test_never_more_than_came_nor_less_than_in_55_seconds(steps: list[float]) -> None:
    volume, now, seen = Volume(), 0.0, []
    for step in steps:
        now += step
        seen.append(now)
        counted = volume.count("u", now)
        assert sum(t > now - 55 for t in seen) <= counted <= sum(t > now - 60 - 5 for t in seen)
