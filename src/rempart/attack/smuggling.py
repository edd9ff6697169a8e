"""Tampering with the framing: one request that two parties cut into different ones (RFC 9112 section 11.2).

A probe is one connection on which a second, forbidden request is hidden in the first. It got through when more answers
come back than requests were sent, or the hidden one is answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .model import Actor, Alert, Attack, Outcome, blocked, got_through
from .scene import Scene
from .wire import NoAnswer, Reply, connect, encode, exchange

_HIDDEN = "GET /logs HTTP/1.1\r\nHost: localhost\r\nX-Hidden: 1\r\n\r\n"


def attacks() -> Iterator[Attack]:
    for id, title, headers, body in _probes():
        yield Attack(
            f"T-smuggling-{id}",
            Actor.OUTSIDER,
            title,
            "a second request hidden in the body of a POST /login",
            "400, or the body read as a body; never two answers",
            lambda scene, headers=headers, body=body: _try(scene, headers, body),  # type: ignore[misc]  # see paths
            Alert.REQUESTS,
        )
    yield Attack(
        "T-smuggling-lines",
        Actor.OUTSIDER,
        "Malformed lines",
        "obsolete folding, bare LF and CR, a space before the colon, NUL, no Host, two Hosts, HTTP/0.9",
        "400 or 401",
        _lines,
        Alert.REQUESTS,
    )
    yield Attack(
        "T-upgrade",
        Actor.OUTSIDER,
        "Upgrade",
        "h2c and websocket upgrades, to tunnel past the checks",
        "no 101",
        _upgrade,
        Alert.REQUESTS,
    )
    yield Attack(
        "T-h2-headers",
        Actor.OUTSIDER,
        "HTTP/2 downgrade",
        "line breaks, Transfer-Encoding, a wrong content-length, two paths and upper case in HTTP/2 headers",
        "reset or 4xx",
        _h2,
        Alert.REQUESTS,
    )


def _probes() -> Iterator[tuple[str, str, Sequence[tuple[str, str]], bytes]]:
    hidden = _HIDDEN.encode()
    chunked = b"0\r\n\r\n" + hidden
    length = str(len(chunked))
    yield (
        "cl-te",
        "Content-Length before Transfer-Encoding",
        [("Content-Length", length), ("Transfer-Encoding", "chunked")],
        chunked,
    )
    yield (
        "te-cl",
        "Transfer-Encoding before Content-Length",
        [("Transfer-Encoding", "chunked"), ("Content-Length", "4")],
        b"5c\r\n" + hidden,
    )
    for number, coding in enumerate(
        (
            "xchunked",
            "chunked, identity",
            "identity, chunked",
            " chunked",
            "\x0bchunked",
            "chunked\t",
            "Chunked, x",
            '"chunked"',
        )
    ):
        yield (
            f"te-te-{number}",
            f"Obscured Transfer-Encoding {coding.strip()!r}",
            [("Transfer-Encoding", coding), ("Content-Length", length)],
            chunked,
        )
    yield (
        "two-te",
        "Two Transfer-Encodings",
        [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "identity")],
        chunked,
    )
    yield "two-cl", "Two Content-Lengths", [("Content-Length", "0"), ("Content-Length", length)], chunked
    yield "cl-list", "A list of Content-Lengths", [("Content-Length", f"0, {length}")], chunked
    yield "cl-sign", "A signed Content-Length", [("Content-Length", "+0")], hidden
    yield "cl-hex", "A hexadecimal Content-Length", [("Content-Length", "0x0")], hidden
    yield (
        "chunk-size",
        "An overflowing chunk size",
        [("Transfer-Encoding", "chunked")],
        b"100000000000000000\r\n" + hidden,
    )
    yield (
        "chunk-extension",
        "A line break in a chunk extension",
        [("Transfer-Encoding", "chunked")],
        b"1;a\nb\r\nx\r\n0\r\n\r\n",
    )


def _try(scene: Scene, headers: Sequence[tuple[str, str]], body: bytes) -> Outcome:
    data = encode(
        "POST", "/login", [("Content-Type", "application/json"), ("Connection", "keep-alive"), *headers], body
    )
    try:
        replies = _exchange(scene, data, 2)
    except NoAnswer as refusal:
        return blocked(str(refusal), "gateway")
    return _judge(replies)


def _judge(replies: list[Reply]) -> Outcome:
    """One answer of 4xx is right. A second is right only when it is the gateway's own 400 to the rest of the bytes, or
    the denial of a request that stood in the open: the length was explicit and zero, so that nothing was hidden."""
    first, *more = replies
    said = ", ".join(reply.said for reply in replies)
    if any(not 400 <= reply.status < 500 for reply in replies) or any(reply.status not in (400, 401) for reply in more):
        return got_through(said, replies[-1].evidence)
    return blocked(said, "gateway: strict framing", first.evidence)


def _exchange(scene: Scene, data: bytes, replies: int) -> list[Reply]:
    with connect(scene.gateway, scene.tls, source=scene.source, timeout=3.0) as connection:
        return exchange(connection, data, replies=replies)


def _lines(scene: Scene) -> Outcome:
    last: Reply | None = None
    for raw in (
        "GET /logs HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\n x-rempart-role: admin\r\n\r\n",
        "GET /logs HTTP/1.1\nHost: localhost\n\n",
        "GET /logs HTTP/1.1\r\nHost: localhost\r\nX-A: 1\rx-rempart-role: admin\r\n\r\n",
        "GET /logs HTTP/1.1\r\nHost: localhost\r\nX-Rempart-Role : admin\r\n\r\n",
        "GET /logs HTTP/1.1\r\nHost: localhost\r\nX-A: a\0b\r\n\r\n",
        "GET /logs HTTP/1.1\r\n\r\n",
        "GET /logs HTTP/1.1\r\nHost: localhost\r\nHost: people\r\n\r\n",
        "GET /logs\r\n\r\n",
        "GET /logs HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "GET  /logs  HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\r\n\r\nGET /logs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /logs HTTP/1.1\r\nHost: localhost\r\n: empty\r\n\r\n",
    ):
        try:
            last = _exchange(scene, raw.encode(), 1)[0]
        except NoAnswer:
            continue
        if not 400 <= last.status < 500:
            return got_through(f"{raw[:60]!r}: {last.said}", last.evidence)
    return blocked(last.said if last else "no answer", "gateway: strict framing", last.evidence if last else "")


def _upgrade(scene: Scene) -> Outcome:
    h2c = [
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ("Connection", "Upgrade, HTTP2-Settings"),
    ]
    websocket = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ]
    for headers in (h2c, websocket):
        try:
            reply = _exchange(scene, encode("GET", "/logs", headers), 1)[0]
        except NoAnswer:
            continue
        if reply.status < 400 or reply.status >= 500:
            return got_through(reply.said, reply.evidence)
    return blocked(reply.said, "gateway", reply.evidence)


def _h2(scene: Scene) -> Outcome:
    from .http2 import ask_h2

    base = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/logs")]
    said, evidence = "", ""
    for headers in (
        [*base, ("x-a", "1\r\nx-rempart-role: admin")],
        [*base, ("transfer-encoding", "chunked")],
        [*base, ("content-length", "100")],
        [*base, (":path", "/login")],
        [*base, ("X-Rempart-Role", "admin")],
        [*base, ("connection", "authorization")],
        [*base, ("host", "people")],
        [(":method", "GET /login HTTP/1.1\r\nx: "), *base[1:]],
        [*base[:3], (":path", "/login HTTP/1.1\r\nHost: people\r\n\r\nGET /logs")],
        [*base, ("x-a\r\nx-rempart-role", "admin")],
        [*base, ("x-rempart-claims", "e30"), ("x-spiffe-id", f"spiffe://{scene.trust_domain}/rempart/gateway")],
    ):
        try:
            reply = ask_h2(scene.gateway, scene.ca, headers, source=scene.source)
        except NoAnswer as refusal:
            said = said or str(refusal)
            continue
        if not 400 <= reply.status < 500:
            return got_through(f"{headers[-1]}: {reply.said}", reply.evidence)
        said, evidence = reply.said, reply.evidence
    return blocked(said, "gateway: strict framing", evidence)
