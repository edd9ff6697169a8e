"""Denial of service from one machine, within seconds: what is bounded must say so, and others must be served meanwhile.

What many machines can do is beyond what a gateway can stop: docs/security-model.md says so.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from .model import Actor, Alert, Attack, Outcome, Trace, blocked, got_through
from .scene import Scene
from .wire import NoAnswer, Reply, ask, connect, encode, exchange

_ONE_ADDRESS = 1200  # requests within a few seconds
_PATIENCE = 22.0  # seconds; a half-sent request must be ended by then


def attacks() -> Iterator[Attack]:
    def flood(
        id: str, title: str, tried: str, expected: str, run: Callable[[Scene], Outcome], *, alone: bool = False
    ) -> Attack:
        return Attack(f"D-{id}", Actor.OUTSIDER, title, tried, expected, run, Alert.REQUESTS, alone=alone)

    yield flood(
        "slow-headers",
        "Slow loris",
        "40 connections that send their headers byte by byte",
        "ended, others served",
        _slow_headers,
    )
    yield flood(
        "slow-body", "Slow body", "10 requests whose body never comes", "408 or closed, others served", _slow_body
    )
    yield flood(
        "slow-handshake",
        "Slow handshake",
        "40 connections that never finish TLS",
        "ended, others served",
        _slow_handshake,
    )
    yield flood("large-body", "Huge body", "20 MB announced and sent, with a token", "413 or closed", _large_body)
    yield flood("endless-body", "Endless body", "chunks without end, with a token", "413 or closed", _endless_body)
    yield flood(
        "large-headers",
        "Huge headers",
        "one header of 200 KB; 500 headers; a path of 100 KB",
        "431, 414, 413, 400 or closed",
        _large_headers,
    )
    yield flood(
        "h2-reset",
        "Rapid reset",
        "2000 HTTP/2 streams opened and reset at once (CVE-2023-44487)",
        "connection ended, others served",
        _rapid_reset,
    )
    yield flood(
        "rate",
        "Flood",
        f"{_ONE_ADDRESS} requests from one address",
        "429 with Retry-After; another address is served",
        _rate,
        alone=True,
    )
    yield flood(
        "deep-json",
        "Deep and wide JSON",
        "100 000 brackets, 50 000 names, a number of 200 000 digits",
        "4xx at once",
        _deep_json,
    )
    yield flood(
        "connections",
        "Many connections",
        "300 idle connections from one address",
        "others served",
        _connections,
        alone=True,
    )


def _served(scene: Scene) -> Reply | None:
    """What an honest client at another address gets within three seconds."""
    try:
        reply = ask(scene.gateway, scene.tls, "GET", "/auth/jwks.json", source=scene.new_source(), timeout=3.0)
    except NoAnswer:
        return None
    return reply if reply.status == 200 else None


def _ended(connections: list[socket.socket], feed: bytes) -> float | None:
    """Seconds until the peer ended all of them while one byte a second goes in; None when it has too much patience."""
    start = time.monotonic()
    alive = list(connections)
    while alive and time.monotonic() - start < _PATIENCE:
        for connection in list(alive):
            try:
                if feed:
                    connection.sendall(feed)
                connection.settimeout(0.001)
                if connection.recv(4096):
                    continue
            except TimeoutError:
                continue
            except OSError:
                pass
            alive.remove(connection)
        time.sleep(0.5)
    return None if alive else time.monotonic() - start


@contextlib.contextmanager
def _open(scene: Scene, count: int, data: bytes, *, tls: bool = True) -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    source = scene.new_source()
    try:
        for _ in range(count):
            with contextlib.suppress(NoAnswer, OSError):
                connection = connect(scene.gateway, scene.tls if tls else None, source=source, timeout=5.0)
                opened.append(connection)
                connection.sendall(data)
        yield opened
    finally:
        for connection in opened:
            connection.close()


def _slow(scene: Scene, count: int, data: bytes, feed: bytes, *, tls: bool = True) -> Outcome:
    with _open(scene, count, data, tls=tls) as connections:
        if _served(scene) is None:
            return got_through("an honest client gets no answer meanwhile")
        seconds = _ended(connections, feed)
    if seconds is None:
        return got_through(f"still open after {_PATIENCE:.0f} s")
    return blocked(
        f"ended after {seconds:.0f} s, others served",
        "gateway: timeouts",
        Trace(("mesh.request_refused", "mesh.handshake_refused")),
    )


def _slow_headers(scene: Scene) -> Outcome:
    return _slow(scene, 40, b"GET /logs HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"a")


def _slow_body(scene: Scene) -> Outcome:
    return _slow(
        scene,
        10,
        encode("POST", "/login", [("Content-Type", "application/json"), ("Content-Length", "1000")]) + b"{",
        b"",
    )


def _slow_handshake(scene: Scene) -> Outcome:
    return _slow(scene, 40, b"\x16\x03\x01\x02\x00", b"", tls=False)


def _large_body(scene: Scene) -> Outcome:
    target, headers = _to_a_service(scene)
    return _too_large(scene, encode("POST", target, headers, b"a" * (20 << 20)), 413)


def _endless_body(scene: Scene) -> Outcome:
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    target, headers = _to_a_service(scene)
    return _too_large(scene, encode("POST", target, [*headers, ("Transfer-Encoding", "chunked")]) + chunk * 300, 413)


def _to_a_service(scene: Scene) -> tuple[str, list[tuple[str, str]]]:
    """Not to people, which says 413 itself: that would hide that the gateway let it in."""
    target, who = ("/payments", scene.session("user")) if not scene.lacks(("/payments",)) else scene.own()
    return target, [("Content-Type", "application/json"), *who.bearer]


def _too_large(scene: Scene, data: bytes, *statuses: int) -> Outcome:
    """Any other answer means that all of it was let in, whoever refused it further inside."""
    try:
        with connect(scene.gateway, scene.tls, source=scene.new_source()) as connection:
            reply = exchange(connection, data)[0]
    except NoAnswer as refusal:
        return blocked(str(refusal), "gateway: sizes", Trace(("mesh.request_refused", "decision")))
    if reply.status not in statuses:
        return got_through(f"let in, and answered {reply.said}", reply.evidence)
    return blocked(reply.said, "gateway: sizes", reply.evidence)


def _large_headers(scene: Scene) -> Outcome:
    outcome = None
    for data in (
        encode("GET", "/logs", [("X-Large", "a" * 200_000)]),
        encode("GET", "/logs", [(f"X-Many-{number}", "a") for number in range(500)]),
        encode("GET", "/logs?" + "a" * 100_000),
    ):
        outcome = _too_large(scene, data, 400, 413, 414, 431)
        if not outcome.blocked:
            return outcome
    return outcome or got_through("nothing was tried")


def _rapid_reset(scene: Scene) -> Outcome:
    import ssl

    import h2.config
    import h2.connection
    import h2.events

    context = ssl.create_default_context(cafile=scene.ca)
    context.set_alpn_protocols(["h2"])
    headers = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/logs")]
    ended = False
    with connect(scene.gateway, context, source=scene.new_source(), timeout=3.0) as channel:
        connection = h2.connection.H2Connection(h2.config.H2Configuration())
        connection.initiate_connection()
        try:
            for number in range(2000):
                stream = 2 * number + 1
                connection.send_headers(stream, headers, end_stream=True)
                connection.reset_stream(stream)
                if number % 50 == 0:
                    channel.sendall(connection.data_to_send())
            channel.sendall(connection.data_to_send())
            while data := channel.recv(65536):
                ended = b"\x00\x00" in data and any(
                    isinstance(event, h2.events.ConnectionTerminated) for event in connection.receive_data(data)
                )
                if ended:
                    break
            else:
                ended = True
        except TimeoutError:
            pass
        except Exception:  # h2 counts streams that the peer has closed; the socket may be gone: both mean an end
            ended = True
    if _served(scene) is None:
        return got_through("an honest client gets no answer afterwards")
    if not ended:
        return got_through("2000 resets were accepted on one connection")
    return blocked(
        "connection ended, others served", "gateway: limits on resets", Trace(("mesh.request_refused", "decision"))
    )


def _rate(scene: Scene) -> Outcome:
    source = scene.new_source()
    limited: list[Reply] = []

    def burst(_: int) -> list[Reply]:
        with connect(scene.gateway, scene.tls, source=source) as connection:
            data = encode("GET", "/auth/jwks.json", [("Connection", "keep-alive")])
            replies: list[Reply] = []
            for _ in range(_ONE_ADDRESS // 8):
                replies += exchange(connection, data)
                if replies[-1].status == 429:
                    break
            return replies

    with ThreadPoolExecutor(8) as pool:
        for replies in pool.map(_quietly(burst), range(8)):
            limited += [reply for reply in replies if reply.status == 429]
    if not limited:
        return got_through(f"{_ONE_ADDRESS} requests from one address were served")
    if not limited[0].headers.get("retry-after"):
        return got_through("429 without Retry-After", limited[0].evidence)
    if _served(scene) is None:
        return got_through("another address isn't served any more")
    return blocked(limited[0].said, "gateway: rate limit", limited[0].evidence)


def _quietly(run: Callable[[int], list[Reply]]) -> Callable[[int], list[Reply]]:
    def wrapped(number: int) -> list[Reply]:
        try:
            return run(number)
        except NoAnswer:
            return []

    return wrapped


def _deep_json(scene: Scene) -> Outcome:
    start = time.monotonic()
    for body in (
        b"[" * 100_000,
        b'{"email":' * 20_000,
        b"{" + b",".join(b'"a%d":1' % number for number in range(50_000)) + b"}",
        b'{"email":"a","password":' + b"9" * 200_000 + b"}",
        b'{"email":"a","password":"' + b"\\ud83d" * 20_000 + b'"}',
    ):
        reply = scene.send("POST", "/login", body)
        if not 400 <= reply.status < 500:
            return got_through(reply.said, reply.evidence)
    seconds = time.monotonic() - start
    if seconds > 5:
        return got_through(f"{seconds:.1f} s of work", reply.evidence)
    return blocked(f"{reply.said} within {seconds:.1f} s", "people: strict input", reply.evidence)


def _connections(scene: Scene) -> Outcome:
    with _open(scene, 300, b"") as connections:
        served = _served(scene)
        opened = len(connections)
    if served is None:
        return got_through(f"{opened} idle connections, and an honest client gets no answer")
    return blocked(f"{opened} open, others served", "gateway: limits on connections", served.evidence)
