"""A witness that answers as it likes holds the sequencer for a moment and fills nothing."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rempart.audit.witness import SizeConflict
from rempart.backends import http_witness
from rempart.backends.http_witness import HttpWitness
from rempart.kernel.errors import BadInput, RempartError, Unavailable, Unprocessable

Answer = tuple[int, dict[str, str], bytes]
FLOOD = b"x" * 65536
SIZE = {"content-type": "text/x.tlog.size"}


class Witness(ThreadingHTTPServer):
    """Answers with `answer`; where that has no length, its body comes again and again."""

    daemon_threads = True
    answer: Answer = (200, {}, b"")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Witness

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status, headers, body = self.server.answer
        endless = "endless" in headers
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if not endless:
            self.send_header("content-length", str(len(body)))
        self.close_connection = True
        with suppress(OSError):
            self.end_headers()
            self.wfile.write(body)
            while endless and body:
                self.wfile.write(body)
            while endless:
                self.rfile.read(1)
                return

    def log_message(self, *args: object) -> None:
        return None


@pytest.fixture
def witness() -> Iterator[Witness]:
    server = Witness(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(witness: Witness) -> str:
    return asyncio.run(HttpWitness(f"http://127.0.0.1:{witness.server_address[1]}/").add_checkpoint(b"old 0\n\nnote\n"))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param((200, {"endless": "1"}, FLOOD), BadInput, id="without end"),
        pytest.param((200, {"endless": "1"}, b""), Unavailable, id="stalls"),
        pytest.param((200, {}, bytes(1 << 20)), BadInput, id="long"),
        pytest.param((409, SIZE, "\u0663".encode()), BadInput, id="another script's digit"),
        pytest.param((409, SIZE, b"9" * 400), BadInput, id="a long size"),
        pytest.param((409, {}, b"4"), BadInput, id="a size of no kind"),
        pytest.param((422, {}, b"no"), Unprocessable, id="not convinced"),
        pytest.param((302, {"location": "http://127.0.0.1:1/"}, b""), Unavailable, id="sends elsewhere"),
        pytest.param((500, {}, b""), Unavailable, id="broken"),
    ],
)
def test_what_is_no_answer(
    witness: Witness, answer: Answer, error: type[RempartError], monkeypatch: pytest.MonkeyPatch
) -> None:
    stalls = "endless" in answer[1] and not answer[2]
    monkeypatch.setattr(http_witness, "_WITHIN", 1.0 if stalls else 60.0)
    witness.answer = answer
    with pytest.raises(error):
        ask(witness)


@pytest.mark.parametrize("charset", ["zlib", "hex", "rot13", "utf-16", "nonsense"])
def test_it_does_not_choose_how_it_is_read(witness: Witness, charset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_witness, "_WITHIN", 60.0)
    witness.answer = (200, {"content-type": f"text/plain; charset={charset}"}, b"a line\n")
    assert ask(witness) == "a line\n"


def test_nothing_is_unpacked(witness: Witness) -> None:
    packed = gzip.compress(b"a line\n")
    witness.answer = (200, {"content-encoding": "gzip"}, packed)
    assert ask(witness) == packed.decode("utf-8", "replace")


def test_a_conflict_tells_the_size(witness: Witness) -> None:
    witness.answer = (409, SIZE, b"42\n")
    with pytest.raises(SizeConflict) as raised:
        ask(witness)
    assert raised.value.size == 42
