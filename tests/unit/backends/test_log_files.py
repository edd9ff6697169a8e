"""A log that is read over HTTP can neither hold whoever looks nor fill their memory."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rempart.backends import log_files
from rempart.backends.log_files import HttpLog
from rempart.kernel.errors import Unavailable


class Server(ThreadingHTTPServer):
    daemon_threads = True
    answer: Callable[[Handler], None]
    ended: threading.Event


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.server.answer(self)

    def begin(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *args: object) -> None:
        return None


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.ended = threading.Event()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.ended.set()
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def log(server: Server) -> Iterator[HttpLog]:
    made = HttpLog(f"http://127.0.0.1:{server.server_address[1]}")
    yield made
    made.close()


def trickles(handler: Handler) -> None:
    handler.begin()
    while not handler.server.ended.wait(0.05):
        handler.wfile.write(b"x")
        handler.wfile.flush()


def floods(handler: Handler) -> None:
    handler.begin()
    while True:
        handler.wfile.write(b"x" * 65536)


def says_nothing(handler: Handler) -> None:
    handler.server.ended.wait(60)


@pytest.mark.parametrize("answer", [trickles, floods, says_nothing])
def test_no_answer_is_waited_for_for_ever(
    server: Server, log: HttpLog, answer: Callable[[Handler], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "_WITHIN", 1.0)
    monkeypatch.setattr(log_files, "_LARGEST", 1 << 20)
    server.answer = answer
    with pytest.raises(Unavailable) as raised:
        log.fetch("checkpoint")
    assert raised.value.code == "log_unreachable"


def test_what_is_served_comes_as_it_is(server: Server, log: HttpLog) -> None:
    packed = gzip.compress(bytes(10))

    def answer(handler: Handler) -> None:
        assert handler.headers["accept-encoding"] == "identity"
        if handler.path == "/tile/0/000":
            handler.begin(404, content_length=0)
        elif handler.path == "/checkpoint":
            handler.begin(200, content_length=len(packed), content_encoding="gzip")
            handler.wfile.write(packed)
        else:
            handler.begin(302, location="http://127.0.0.1:1/", content_length=0)

    server.answer = answer
    assert log.fetch("tile/0/000") is None
    assert log.fetch("checkpoint") == packed
    with pytest.raises(Unavailable):
        log.fetch("elsewhere")
