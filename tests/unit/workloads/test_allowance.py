"""How much one agent may ask for."""

from __future__ import annotations

import pytest

from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Throttled
from rempart.workloads.agents import allowance as module
from rempart.workloads.agents.allowance import Allowance


def test_one_agent_is_held_back_and_others_are_not() -> None:
    clock = ManualClock()
    allowance = Allowance(clock, rate=10, burst=100)
    for _ in range(10):
        allowance.take("a", 10)
    with pytest.raises(Throttled) as refusal:
        allowance.take("a", 15)
    assert (refusal.value.code, refusal.value.retry_after) == ("too_many_questions", 2)
    allowance.take("b", 100)
    clock.advance(1.5)
    allowance.take("a", 15)
    with pytest.raises(Throttled):
        allowance.take("a")


def test_what_costs_more_than_there_ever_is_is_not_refused_for_ever() -> None:
    clock = ManualClock()
    allowance = Allowance(clock, rate=10, burst=100)
    allowance.take("a", 150)
    with pytest.raises(Throttled):
        allowance.take("a")
    clock.advance(15.1)
    allowance.take("a", 150)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    allowance = Allowance(ManualClock(), rate=1, burst=1)
    for agent in "abcd":
        allowance.take(agent)
    allowance.take("a")  # forgotten: the oldest
    with pytest.raises(Throttled):
        allowance.take("d")
