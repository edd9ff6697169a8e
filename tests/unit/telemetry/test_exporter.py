"""The thread that sends spans: bounded, and nobody waits for it."""

from __future__ import annotations

import threading

from tests.support import eventually

from rempart.telemetry.exporter import MOST_WAITING, Collector, Exporter
from rempart.telemetry.spans import Span

SPAN = Span("0" * 31 + "1", "0" * 15 + "1", "", "decide", 2, 1, 2, {})
NOBODY = Collector("http://127.0.0.1:1/v1/traces")


def test_what_nobody_takes_is_dropped_and_counted() -> None:
    exporter = Exporter(NOBODY, "pdp", lambda body: 200)  # not begun: nothing is sent
    for _ in range(MOST_WAITING + 7):
        exporter.put(SPAN)
    assert exporter.dropped == 7
    exporter.start().close(30)
    assert (exporter.sent, exporter.dropped) == (MOST_WAITING, 7)


def test_what_was_put_before_it_was_closed_is_sent() -> None:
    """However late the thread comes to it."""
    exporter = Exporter(NOBODY, "pdp", lambda body: 200)
    exporter.put(SPAN)
    exporter.close()
    exporter.start().close(30)
    assert (exporter.sent, exporter.dropped) == (1, 0)


def test_a_collector_that_is_busy_is_asked_again_and_nothing_is_lost() -> None:
    answers = iter([503, 429, 200])
    bodies: list[bytes] = []

    def post(body: bytes) -> int:
        bodies.append(body)
        return next(answers)

    exporter = Exporter(NOBODY, "pdp", post).start()
    exporter.put(SPAN)
    eventually(lambda: exporter.sent == 1, within=30)
    exporter.close()
    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    assert exporter.dropped == 0


def test_what_is_refused_for_good_is_dropped_once() -> None:
    exporter = Exporter(NOBODY, "pdp", lambda body: 400).start()
    exporter.put(SPAN)
    eventually(lambda: exporter.dropped == 1, within=30)
    exporter.close()
    assert "rempart_spans_dropped_total 1\n" in exporter.metrics()


def test_who_puts_does_not_wait_for_a_collector_that_hangs() -> None:
    hangs = threading.Event()
    entered = threading.Event()

    def post(body: bytes) -> int:
        entered.set()
        hangs.wait()
        return 200

    exporter = Exporter(NOBODY, "pdp", post).start()
    exporter.put(SPAN)
    entered.wait(30)
    for _ in range(2 * MOST_WAITING):  # would never end if one of them waited
        exporter.put(SPAN)
    assert exporter.dropped == MOST_WAITING
    hangs.set()
    exporter.close(30)


def test_nobody_there_is_no_error() -> None:
    exporter = Exporter(NOBODY, "pdp").start()
    exporter.put(SPAN)
    exporter.close(30)
    assert (exporter.sent, exporter.dropped) == (0, 1)
