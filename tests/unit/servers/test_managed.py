from __future__ import annotations

from rempart.servers.managed import FIRST_DELAY, LONGEST_DELAY, restart_delay


def test_the_first_restart_waits_50_ms_at_most():
    assert restart_delay(1, lambda: 1.0) == FIRST_DELAY == 0.05
    assert restart_delay(1, lambda: 0.0) == FIRST_DELAY / 2


def test_delays_double_up_to_the_longest():
    delays = [restart_delay(n, lambda: 1.0) for n in range(1, 20)]
    assert delays == sorted(delays)
    assert delays[1] == 2 * delays[0]
    assert delays[-1] == LONGEST_DELAY
