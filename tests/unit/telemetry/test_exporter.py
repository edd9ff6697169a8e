"""The thread that sends spans: bounded, and nobody waits for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from tests.support import eventually

from rempart.telemetry import exporter as module
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


@contextmanager
def hostile(answers: list[Callable[[socket.socket], None]]) -> Iterator[Collector]:
    """A collector that answers each connection's requests by the next of `answers`; the last one stays."""
    taken: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket, answer: Callable[[socket.socket], None]) -> None:
        with suppress(OSError):
            while connection.recv(1 << 16):
                answer(connection)
        connection.close()

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                taken.append(connection)
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                threads.append(threading.Thread(target=serve, args=(connection, answer), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads.append(threading.Thread(target=accept, daemon=True))
        threads[0].start()
        yield Collector(f"http://127.0.0.1:{listening.getsockname()[1]}/v1/traces")
        listening.shutdown(socket.SHUT_RDWR)
    for connection in taken:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(30)


def says(*parts: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)

    return answer


def floods(head: bytes, part: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(part)

    return answer


GOOD = says(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
CHUNKED = b"HTTP/1.1 503 x\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(says(b"\x00\xff garbage \r\n\r\n"), id="garbage"),
        pytest.param(says(CHUNKED, b"-5\r\nxx"), id="a chunk of negative size"),
        pytest.param(floods(CHUNKED + b"-1\r\n", b"x" * 65536), id="a chunk without end"),
        pytest.param(floods(b"HTTP/1.1 503 x\r\n\r\n", b"x" * 65536), id="a body without end"),
        pytest.param(floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), id="interim answers without end"),
        pytest.param(floods(b"HTTP/1.1 503 x\r\n", b"a: b\r\n"), id="headers without end"),
        pytest.param(says(b"HTTP/1.1 503 x\r\ncontent-length: 9\r\n\r\n"), id="a body that stalls"),
        pytest.param(lambda connection: connection.close(), id="hangs up"),
    ],
)
def test_a_hostile_collector_costs_no_memory_and_once_it_behaves_it_gets_the_spans(
    answer: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WITHIN", 0.3)
    monkeypatch.setattr(module, "_EVERY", 0.01)
    with hostile([answer, GOOD]) as collector:
        exporter = Exporter(collector, "pdp").start()
        exporter.put(SPAN)
        eventually(lambda: exporter.sent == 1, within=60)
        exporter.close(30)
        assert exporter.dropped == 0
