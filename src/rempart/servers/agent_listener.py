"""Agents over TCP: TLS 1.3 with the server's own SVID, which is renewed while it listens, and bounds for strangers.

A client may show a certificate; OpenSSL checks that its key is there and that a root of the trust domain is above it,
its time and everything else `workloads.agents.api` checks for each request, so that what is refused is recorded. A
stranger's connections are few per address, begin their request within seconds, and end after one idle minute; a
workload of the trust domain is a stranger here. An agent's SVID has OF_AGENT, of which the oldest ends for a new one:
those that a cut link left behind must not keep it out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import Counter
from typing import Any

from rempart.crypto.svid import verify_leaf
from rempart.crypto.x509 import Certificate, EcKey, ders_to_pem
from rempart.kernel.clock import Clock
from rempart.kernel.errors import RempartError, Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.protocols.asgi_connection import Connection
from rempart.protocols.asgi_exchange import App
from rempart.protocols.asgi_server import AsgiServer
from rempart.workloads.agents.model import AGENTS as AGENTS_PATH
from rempart.workloads.agents.model import SERVER
from rempart.workloads.local_x509 import LocalX509
from rempart.workloads.model import Entry, X509Svid

HANDSHAKE_WITHIN = 5.0
STRANGERS_OF_ADDRESS = 64
STRANGERS = 512
AGENTS = 8192
OF_AGENT = 32
"""Connections with one SVID; an honest agent has `agent_https.MAX_CONNECTIONS`, and as many that are ending."""
_LOOK = 1.0
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (x509_vfy.h), for which Python has no name."""


def server_id(trust_domain: str) -> SpiffeId:
    return SpiffeId(trust_domain, SERVER)


class AgentListener:
    """`listening` is a bound TCP socket; `serve` runs until cancelled."""

    def __init__(self, app: App, listening: socket.socket, x509: LocalX509, trust_domain: str, clock: Clock) -> None:
        self._listening, self._x509, self._clock = listening, x509, clock
        self._entry = Entry(id="", spiffe_id=server_id(trust_domain), selectors=frozenset())
        self.server = AsgiServer(app)
        self.strangers: Counter[str] = Counter()
        self.agents: dict[str, dict[_Shown, None]] = {}
        """By SPIFFE ID and serial, the oldest first."""

    async def serve(self) -> None:
        """Raises Unavailable when there is no first certificate."""
        svid, roots, signed_at = await self._svid(), self._x509.roots, self._clock.now()
        server = await self._listen(svid)
        try:
            while True:
                await asyncio.sleep(_LOOK)
                if self._clock.now() < svid.rotate_at(signed_at) and self._x509.roots == roots:
                    continue
                with contextlib.suppress(RempartError):  # what there is still serves, and the next try is soon
                    svid, roots, signed_at = await self._svid(), self._x509.roots, self._clock.now()
                    old, server = server, await self._listen(svid)
                    old.close()  # who is connected stays
        finally:
            server.close()
            for connection in list(self.server.connections):
                connection.end()

    async def _svid(self) -> X509Svid:
        key = EcKey.generate()
        return X509Svid(self._entry.spiffe_id, "", await self._x509.sign(self._entry, key), key)

    async def _listen(self, svid: X509Svid) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: _Shown(self),
            sock=self._listening.dup(),
            ssl=self._context(svid),
            ssl_handshake_timeout=HANDSHAKE_WITHIN,
            backlog=1024,
        )

    def _context(self, svid: X509Svid) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= _NO_CHECK_TIME
        context.num_tickets = 0  # a resumed session would bring back an agent that is none any more
        context.load_verify_locations(cadata=ders_to_pem([root.der for root in self._x509.roots]).decode())
        load_key(context, svid)
        return context

    def take(self, connection: _Shown) -> bool:
        """Count it in; False when there is no room."""
        if not connection.agent:
            if self.strangers[connection.address] >= STRANGERS_OF_ADDRESS or self.strangers.total() >= STRANGERS:
                return False
            self.strangers[connection.address] += 1
            return True
        own = self.agents.get(connection.agent, {})
        if len(own) >= OF_AGENT:
            oldest = next(iter(own))
            self.leave(oldest)
            oldest.abort()
        elif sum(map(len, self.agents.values())) >= AGENTS:
            return False
        self.agents.setdefault(connection.agent, {})[connection] = None
        return True

    def leave(self, connection: _Shown) -> None:
        """It is over; more than once does no harm."""
        if connection.agent:
            own = self.agents.get(connection.agent, {})
            own.pop(connection, None)
            if not own:
                self.agents.pop(connection.agent, None)
            return
        self.strangers[connection.address] -= 1
        if not self.strangers[connection.address]:
            del self.strangers[connection.address]


def load_key(context: ssl.SSLContext, svid: X509Svid) -> None:
    """OpenSSL's Python face reads keys from files only; a memfd is one that never touches disk."""
    descriptor = os.memfd_create("svid", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as memory:
            memory.write(svid.key.to_pem() + ders_to_pem([one.der for one in svid.chain]))
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError:
        raise Unavailable("bad_svid", "the SVID can't be used for TLS") from None
    finally:
        os.close(descriptor)


class _Shown(Connection):
    """One connection: whose certificate was shown goes into each request's scope."""

    def __init__(self, listener: AgentListener) -> None:
        super().__init__(listener.server)
        self._listener = listener
        self._counted = False
        self.agent = self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection: Any = transport.get_extra_info("ssl_object")
        leaf = connection.getpeercert(binary_form=True)
        self.more = {"rempart.peer": tuple(_chain(connection)) if leaf else ()}  # for `workloads.agents.api`
        self.agent = _agent(leaf)
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        self._counted = self._listener.take(self)
        super().connection_made(transport)
        if not self._counted:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self._listener.leave(self)
        self._counted = False
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._counted:
            super().data_received(data)


def _agent(leaf: bytes | None) -> str:
    """Which SVID of which agent was shown, empty for others: who has an old one must not end connections of the one
    that is in use. That a root vouches for it is known by now."""
    try:
        found = verify_leaf(leaf) if leaf else None
    except RempartError:
        return ""
    if leaf is None or found is None or not found.path.startswith(AGENTS_PATH):
        return ""
    return f"{found} {Certificate.parse(leaf).serial}"


def _chain(connection: Any) -> list[bytes]:
    """As the peer sent it. Python has a public name for that from 3.13 on only."""
    shown = connection._sslobj.get_unverified_chain()
    return [one.public_bytes(ssl._ssl.ENCODING_DER) for one in shown or ()]  # type: ignore[attr-defined]  # as above
