"""Events as syslog (RFC 5424) over mutual TLS with octet counting (RFC 5425).

Syslog has no acknowledgements, so every batch has a connection of its own, and ends it: the receiver ends it in turn
only once it has read everything before. That it answers our close_notify with its own (RFC 5425 section 4.4) proves
that it was the receiver; rsyslog's GnuTLS driver only ends the TCP connection, which counts unless `strict`, because a
receiver that lost something resets it. Without either, the batch counts as not delivered. The same event may arrive
twice; `metadata.uid` in its message tells.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from rempart.audit.ports import Item, Sent
from rempart.kernel.errors import Unavailable
from rempart.protocols.ocsf import Summary, decode_summary

from .sink_tls import Trust

_LOG_AUDIT = 13  # RFC 5424 table 1
_SEVERITY = {"info": 6, "low": 5, "medium": 4, "high": 3, "critical": 2}
_NO_TIME = "-"
_WITHIN = 30.0
_CHUNK = 1 << 16
_NOT_PLAIN = re.compile(r"[^\x20-\x7e]")


def frame(item: Item, host: str) -> bytes:
    """`LENGTH SP SYSLOG-MSG`. The message is the event's JSON in printable ASCII: one line, whatever is in it."""
    summary = decode_summary(item.payload)
    header = (
        f"<{_LOG_AUDIT * 8 + _SEVERITY.get(summary.severity, 6)}>1 {_timestamp(summary)} {host} rempart "
        f'{_name(summary.source, 128)} {_name(summary.type, 32)} [meta sequenceId="{item.index % (2**31 - 1) + 1}"] '
    )
    message = header.encode("ascii") + _plain(item.payload)
    return b"%d %s" % (len(message), message)


def _plain(payload: bytes) -> bytes:
    """The same JSON; everything but printable ASCII is escaped (RFC 8259 section 7)."""
    if payload.isascii() and b"\x7f" not in payload:
        return payload
    return _NOT_PLAIN.sub(_escape, payload.decode("utf-8", "replace")).encode("ascii")


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _timestamp(summary: Summary) -> str:
    try:
        return f"{datetime.fromtimestamp(summary.at / 1000, UTC):%Y-%m-%dT%H:%M:%S}.{summary.at % 1000:03d}Z"
    except (ValueError, OverflowError, OSError):
        return _NO_TIME


def _name(text: str, longest: int) -> str:
    """PRINTUSASCII, or the NILVALUE."""
    return re.sub(r"[^\x21-\x7e]", "?", text)[:longest] or "-"


class SyslogSink:
    """Implements `audit.ports.Sink`. `host_name` stands in every message; the receiver's certificate names `host`."""

    def __init__(self, host: str, port: int, trust: Trust, host_name: str, *, strict: bool = False) -> None:
        self._address = (host, port)
        self._context = trust.context()
        self._host_name = _name(host_name, 255)
        self._strict = strict

    async def send(self, batch: Sequence[Item], mark: Mapping[str, Any]) -> Sent:
        data = b"".join(frame(item, self._host_name) for item in batch)
        try:
            await asyncio.to_thread(self._deliver, data)
        except (OSError, EOFError) as error:
            host, port = self._address
            raise Unavailable(
                "sink_unavailable", f"syslog at {host}:{port}: {type(error).__name__} {error}"[:300], "see docs/siem.md"
            ) from None
        return Sent({})

    def _deliver(self, data: bytes) -> None:
        with socket.create_connection(self._address, _WITHIN) as connection:
            _Tls(self._context, connection, self._address[0]).send_all_of_it(data, strict=self._strict)

    async def close(self) -> None:
        return None


class _Tls:
    """TLS over memory buffers: `ssl.SSLSocket.unwrap` doesn't tell the peer's close_notify from the end of the TCP
    connection, which somebody on the way can forge."""

    def __init__(self, context: ssl.SSLContext, connection: socket.socket, name: str) -> None:
        connection.settimeout(_WITHIN)
        self._connection = connection
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)

    def send_all_of_it(self, data: bytes, *, strict: bool) -> None:
        """Return when the peer has read `data` to its end. Raises OSError."""
        self._until_done(self._tls.do_handshake)
        for start in range(0, len(data), _CHUNK):
            self._until_done(partial(self._tls.write, data[start : start + _CHUNK]))
        try:
            self._until_done(self._tls.unwrap)
        except EOFError:
            if strict:
                raise OSError("the receiver ended it without confirming (RFC 5425 section 4.4)") from None

    def _until_done(self, step: Callable[[], object]) -> None:
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                self._flush()
                received = self._connection.recv(_CHUNK)
                if not received:
                    raise EOFError("the receiver ended the connection") from None
                self._in.write(received)
            else:
                self._flush()
                return

    def _flush(self) -> None:
        if self._out.pending:
            self._connection.sendall(self._out.read())
