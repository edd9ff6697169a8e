"""`workloads.ports.ServerConnection` over HTTPS: nothing is sent before the server's SPIFFE ID was verified.

Names of hosts play no part: who answers must have an X.509-SVID of the server's id under the bundle that is known.
Connections are kept for the next request; at most `MAX_CONNECTIONS` requests are under way at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import h11

from rempart.crypto.svid import verify_leaf
from rempart.crypto.x509 import Certificate, ders_to_pem
from rempart.kernel.errors import OF_STATUS, RempartError, Throttled, Unavailable
from rempart.workloads.agents.messages import MAX_ANSWER
from rempart.workloads.model import X509Svid

CONNECT_WITHIN = 5.0
CLOSE_WITHIN = 1.0
MAX_CONNECTIONS = 10  # on a host with services three are held, and three may carry the record: the rest is for SVIDs
MAX_PROBLEM = 1 << 16
_READ = 1 << 16
_NAME = "rempart-server"


class _NothingCame(Exception):
    """The connection ended before anything of an answer."""


@dataclass
class _Open:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    protocol: h11.Connection
    generation: int


class HttpsServer:
    """`addresses` are (host, port): of several servers of one trust domain the next is tried where one is away."""

    def __init__(self, addresses: Sequence[tuple[str, int]], server_id: str) -> None:
        self._addresses = list(addresses)
        self._server_id = server_id
        self._context = _context((), None)
        self._generation = 0
        self._idle: list[_Open] = []
        self._turns = asyncio.Semaphore(MAX_CONNECTIONS)

    def use(self, roots: Sequence[Certificate], svid: X509Svid | None) -> None:
        self._context = _context(roots, svid)
        self._generation += 1
        idle, self._idle = self._idle, []
        for one in idle:
            one.writer.close()

    async def close(self) -> None:
        idle = self._idle
        self.use((), None)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                for one in idle:
                    await one.writer.wait_closed()

    async def ask(self, method: str, path: str, body: bytes = b"", *, within_s: float) -> bytes:
        try:
            async with asyncio.timeout(within_s), self._turns:
                return await self._exchange(method, path, body)
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            why = f"the server does not answer: {_words(error)}"
            raise Unavailable("server_away", why, "it is asked again by itself") from None

    async def _exchange(self, method: str, path: str, body: bytes) -> bytes:
        while self._idle:
            with contextlib.suppress(_NothingCame):  # closed while it was idle: the request was not looked at
                return await self._request(self._idle.pop(), method, path, body)
        try:
            return await self._request(await self._connect(), method, path, body)
        except _NothingCame:
            raise OSError("the connection was closed without an answer") from None

    async def _connect(self) -> _Open:
        failure: Exception = OSError("there is no address")
        for _ in self._addresses:
            host, port = self._addresses[0]
            generation = self._generation
            try:
                async with asyncio.timeout(CONNECT_WITHIN):
                    reader, writer = await asyncio.open_connection(host, port, ssl=self._context, server_hostname=_NAME)
            except (OSError, TimeoutError) as error:
                failure = error
                self._addresses.append(self._addresses.pop(0))
                continue
            try:
                self._check_peer(writer)
            except RempartError:
                writer.close()
                raise
            return _Open(reader, writer, h11.Connection(h11.CLIENT), generation)
        raise failure

    def _check_peer(self, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        try:
            found = str(verify_leaf(shown or b""))
        except RempartError as error:
            found = error.reason
        if found != self._server_id:
            why = f"{found[:300]} answers, not {self._server_id}"
            raise Unavailable("not_the_server", why, "see who listens there")

    async def _request(self, connection: _Open, method: str, path: str, body: bytes) -> bytes:
        try:
            status, content = await _exchange(connection, method, path, body)
        except BaseException:
            connection.writer.close()
            raise
        protocol = connection.protocol
        reusable = protocol.our_state is h11.DONE and protocol.their_state is h11.DONE
        if reusable and connection.generation == self._generation:
            protocol.start_next_cycle()
            self._idle.append(connection)
        else:
            connection.writer.close()
        if status >= 300:
            raise _refusal(status, content)
        return content


async def _exchange(connection: _Open, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body. Raises _NothingCame, OSError, h11.RemoteProtocolError, Unavailable `bad_answer`."""
    protocol, writer = connection.protocol, connection.writer
    headers = [("host", _NAME), ("content-length", str(len(body)))]
    status, content = 0, bytearray()
    try:
        writer.write(protocol.send(h11.Request(method=method, target=path, headers=headers)) or b"")
        if body:
            writer.write(protocol.send(h11.Data(data=body)) or b"")
        writer.write(protocol.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        while True:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                data = await connection.reader.read(_READ)
                if not data and not status:
                    raise _NothingCame
                protocol.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                content += event.data
                if len(content) > (MAX_ANSWER if status < 300 else MAX_PROBLEM):
                    raise Unavailable("bad_answer", "the server's answer is too large")
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(content)
            elif isinstance(event, h11.ConnectionClosed):
                raise _NothingCame
    except OSError:
        if status:
            raise
        raise _NothingCame from None


def _context(roots: Sequence[Certificate], svid: X509Svid | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the SPIFFE ID is checked instead
    if roots:
        context.load_verify_locations(cadata=ders_to_pem([root.der for root in roots]).decode())
    else:
        context.verify_mode = ssl.CERT_NONE  # only where the operator asked for it: who answers says what to trust
    if svid is not None:
        # OpenSSL's Python face reads keys from files only; a memfd is one that never touches disk.
        descriptor = os.memfd_create("svid", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as memory:
                memory.write(svid.key.to_pem() + ders_to_pem([one.der for one in svid.chain]))
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    return context


def _refusal(status: int, body: bytes) -> RempartError:
    code, reason, remedy = "bad_answer", f"the server answers {status}", ""
    with contextlib.suppress(ValueError, AttributeError):
        document = json.loads(body)
        code, reason = str(document.get("code", code))[:64], str(document.get("detail", reason))[:500]
        remedy = str(document.get("remedy", ""))[:500]
    if status == Throttled.status:
        return Unavailable(code, reason, remedy)
    return OF_STATUS.get(status, Unavailable)(code, reason, remedy)


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):  # says that it is not yet valid, where a clock is wrong
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or type(error).__name__).lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)[:200] or type(error).__name__
