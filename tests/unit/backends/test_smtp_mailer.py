"""A mail relay that doesn't behave costs neither memory nor a thread for long."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from rempart.backends import smtp_mailer
from rempart.backends.smtp_mailer import Relay, SmtpMailer
from rempart.kernel.errors import Unavailable

Talk = Callable[[socket.socket], None]


@contextmanager
def relay(talk: Talk) -> Iterator[Relay]:
    def serve() -> None:
        with suppress(OSError):
            connection, _ = listening.accept()
            taken.append(connection)
            talk(connection)

    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Relay("127.0.0.1", listening.getsockname()[1], "none", "a@x.example")
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
    for connection in taken:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    thread.join(30)
    for connection in taken:
        connection.close()


def floods(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"220-hello\r\n" * 1000)


def floods_later(connection: socket.socket) -> None:
    connection.sendall(b"220 hello\r\n")
    connection.recv(1 << 16)
    while True:
        connection.sendall(b"250-more\r\n" * 1000)


def trickles(connection: socket.socket) -> None:
    pause = threading.Event()
    while True:
        connection.sendall(b"2")
        pause.wait(0.05)


def says_nothing(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("talk", [floods, floods_later, trickles, says_nothing])
def test_a_relay_that_answers_slowly_or_without_end_is_cut_off(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_mailer, "WITHIN", 0.5)
    with relay(talk) as settings, pytest.raises(Unavailable) as raised:
        asyncio.run(SmtpMailer(settings).send("b@x.example", "s", "t"))
    assert raised.value.code == "mail_unavailable"
