"""Slow for the attacker, not for the owner, and bounded."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Throttled
from rempart.people import throttle_counters as module
from rempart.people.throttle import ACCOUNT, DEVICE, NETWORK, PAIR, Throttle

T = TypeVar("T")


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing: in memory, none does."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("it waited")


def fail(throttle: Throttle, account: str = "ann", network: str = "n1", **where: object) -> None:
    at_once(at_once(throttle.begin(account, network, **where)).failed())  # type: ignore[arg-type]


def wait(throttle: Throttle, account: str = "ann", network: str = "n1", **where: object) -> int:
    try:
        at_once(at_once(throttle.begin(account, network, **where)).abandoned())  # type: ignore[arg-type]
    except Throttled as refusal:
        return refusal.retry_after
    return 0


def test_the_wait_doubles_after_the_free_failures() -> None:
    clock = ManualClock()
    throttle = Throttle(clock)
    waits = []
    for _ in range(PAIR.free + 6):
        fail(throttle)
        waits.append(wait(throttle))
        clock.advance(waits[-1])
    assert waits == [0] * PAIR.free + [1, 2, 4, 8, 16, 32]


def test_the_wait_has_an_end_and_failures_are_forgiven() -> None:
    clock = ManualClock()
    throttle = Throttle(clock)
    for _ in range(40):
        fail(throttle)
        clock.advance(wait(throttle))
    fail(throttle)
    assert wait(throttle) == PAIR.longest
    clock.advance(40 * PAIR.forgiven_after)
    for _ in range(PAIR.free):
        fail(throttle)
    assert wait(throttle) == 0


def test_hammering_while_throttled_changes_nothing() -> None:
    clock = ManualClock()
    throttle = Throttle(clock)
    for _ in range(PAIR.free + 3):
        fail(throttle)
        clock.advance(wait(throttle) if _ < PAIR.free + 2 else 0)
    before = wait(throttle)
    for _ in range(1000):
        assert wait(throttle) == before


def test_the_owner_elsewhere_is_not_kept_out() -> None:
    throttle = Throttle(ManualClock())
    for number in range(200):
        for _ in range(3):
            if wait(throttle, network=f"botnet{number}") == 0:
                fail(throttle, network=f"botnet{number}")
    assert wait(throttle, network="fresh stranger") > 0  # the account is guarded against all unknown networks
    assert wait(throttle, network="home", known_network=True) == 0
    assert wait(throttle, network="anywhere", device="phone") == 0
    assert wait(throttle, account="bob", network="fresh stranger") == 0


def test_a_known_device_has_a_limit_of_its_own() -> None:
    throttle = Throttle(ManualClock())
    for _ in range(DEVICE.free + 1):
        fail(throttle, device="stolen")
    assert wait(throttle, device="stolen") > 0
    assert wait(throttle, device="mine") == 0


def test_one_network_cannot_try_one_password_on_every_account() -> None:
    throttle = Throttle(ManualClock())
    tried = 0
    for number in range(1000):
        if wait(throttle, account=f"user{number}") == 0:
            fail(throttle, account=f"user{number}")
            tried += 1
    assert tried == NETWORK.free + 1


def test_an_attackers_own_logins_wash_nothing_away() -> None:
    throttle = Throttle(ManualClock())
    for number in range(NETWORK.free + 1):
        fail(throttle, account=f"victim{number}")
        if wait(throttle, account="mine") == 0:
            at_once(at_once(throttle.begin("mine", "n1")).succeeded())
    assert wait(throttle, account="next victim") > 0


def test_a_success_forgives_the_pair() -> None:
    throttle = Throttle(ManualClock())
    for _ in range(PAIR.free):
        fail(throttle)
    at_once(at_once(throttle.begin("ann", "n1")).succeeded())
    for _ in range(PAIR.free):
        fail(throttle)
    assert wait(throttle) == 0


def test_attempts_side_by_side_are_counted_before_they_fail() -> None:
    throttle = Throttle(ManualClock())
    running = [at_once(throttle.begin("ann", "n1")) for _ in range(PAIR.at_once)]
    with pytest.raises(Throttled):
        at_once(throttle.begin("ann", "n1"))
    for attempt in running:
        at_once(attempt.failed())
    assert wait(throttle) > 60


def test_an_attempt_ends_once() -> None:
    throttle = Throttle(ManualClock())
    attempt = at_once(throttle.begin("ann", "n1"))
    at_once(attempt.failed())
    at_once(attempt.abandoned())
    assert throttle.entries == 3


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 100)
    throttle = Throttle(ManualClock())
    for number in range(1000):
        fail(throttle, account=f"a{number}", network=f"n{number}")
    assert throttle.entries <= 300


def test_who_is_refused_leaves_no_trace_in_memory() -> None:
    throttle = Throttle(ManualClock())
    for _ in range(NETWORK.free + 1):
        fail(throttle, account=f"u{_}")
    before = throttle.entries
    for number in range(1000):
        assert wait(throttle, account=f"x{number}") > 0
    assert throttle.entries == before


def test_switched_off_it_counts_nothing() -> None:
    throttle = Throttle(ManualClock(), enabled=False)
    for _ in range(1000):
        fail(throttle)
    assert wait(throttle) == 0


class Guessing(RuleBasedStateMachine):
    """However an attacker from unknown networks mixes waiting and guessing, the account's total stays bounded."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.throttle = Throttle(self.clock)
        self.guesses = 0

    @rule(network=st.integers(0, 30), times=st.integers(1, 30))
    def guess(self, network: int, times: int) -> None:
        for _ in range(times):
            if wait(self.throttle, network=f"n{network}") == 0:
                fail(self.throttle, network=f"n{network}")
                self.guesses += 1

    @rule(seconds=st.floats(0, 2000))
    def pause(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def bounded(self) -> None:
        elapsed = self.clock.monotonic()
        # Free ones, those while the wait doubles up to the longest, then one per longest wait, and the forgiven.
        assert self.guesses <= ACCOUNT.free + 11 + elapsed / ACCOUNT.longest + 2 * elapsed / ACCOUNT.forgiven_after

    @invariant()
    def the_owner_gets_in(self) -> None:
        assert wait(self.throttle, network="home", known_network=True) == 0


TestGuessing = Guessing.TestCase
TestGuessing.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
