"""Mutual TLS with one's SVID, for programs that speak it themselves instead of going through their sidecar.

    async with await TlsIdentity.start() as identity:
        wallet = {"spiffe://bank.example/wallet"}
        client = httpx.AsyncClient(verify=identity.client_context(wallet), trust_env=False)
        server = await asyncio.start_server(answer, port=8443, ssl=identity.server_context({"spiffe://…/payment"}))

    with TlsIdentity.in_background() as identity: ...     # the same for programs without an event loop

A context is made once and follows by itself: each new connection shows the SVID and trusts the bundle of that moment,
and no other. Every handshake ends with a check of the peer's SPIFFE ID (X509-SVID section 5.2), where ordinary TLS
looks at names of hosts. Connections that stand are not disturbed. Only the own trust domain is trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import threading
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

from rempart.crypto.svid import verify_leaf
from rempart.kernel.errors import Denied, RempartError, Unauthenticated
from rempart.kernel.spiffe import SpiffeId

from .spiffe import TIMEOUT, WorkloadApi, X509Svid

_RETRY = 1.0


def verify_peer(connection: ssl.SSLSocket | ssl.SSLObject, allowed: Container[str] | None = None) -> SpiffeId:
    """The peer's SPIFFE ID, from exactly one URI SAN. With `allowed`, one of those.

    Raises Unauthenticated `bad_svid`, Denied `peer_not_allowed`.
    """
    certificate = connection.getpeercert(binary_form=True)
    if not certificate:
        raise Unauthenticated("bad_svid", "the peer showed no certificate")
    spiffe_id = verify_leaf(certificate)
    if allowed is not None and str(spiffe_id) not in allowed:
        raise Denied("peer_not_allowed", f"the peer is {spiffe_id}", "see who may be there")
    return spiffe_id


def _verify(connection: ssl.SSLSocket | ssl.SSLObject) -> None:
    context = connection.context
    try:
        verify_peer(connection, context.allowed if isinstance(context, _Current) else None)
    except RempartError as error:  # what everybody who uses contexts expects of them
        raise ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, str(error)) from None


class _Object(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        _verify(self)


class _Socket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _verify(self)


class _Current(ssl.SSLContext):
    """One SVID and one bundle, for the connections that begin while they are current."""

    sslobject_class = _Object
    sslsocket_class = _Socket
    allowed: Container[str] | None = None


def _load(context: ssl.SSLContext, svid: X509Svid) -> None:
    """OpenSSL's Python face reads keys from files only; a memfd is one that never touches disk."""
    descriptor = os.memfd_create("svid", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "w", closefd=False) as memory:
            memory.write(svid.private_key_pem() + svid.certificate_pem())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _context(protocol: int, svid: X509Svid, allowed: Container[str] | None) -> _Current:
    context = _Current(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # SPIFFE IDs are checked instead
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=svid.bundle_pem())
    context.options |= ssl.OP_NO_TICKET
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # a resumed session would outlive the certificate that it began with
    context.allowed = allowed
    _load(context, svid)
    return context


def client_context(svid: X509Svid, allowed: Container[str] | None = None) -> ssl.SSLContext:
    """To connect as `svid`, trusting its trust domain only."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, svid, allowed)


def server_context(svid: X509Svid, allowed: Container[str] | None = None) -> ssl.SSLContext:
    """To listen as `svid`; who connects must have an SVID of the same trust domain."""
    return _context(ssl.PROTOCOL_TLS_SERVER, svid, allowed)


class RotatingContext(ssl.SSLContext):
    """Stands for whatever context is current: libraries are given this one, once.

    Python's contexts can take in new roots and never lose one, so changing a context in place would go on trusting a
    root that was replaced because it leaked.
    """

    def __init__(self, protocol: int, svid: Callable[[], X509Svid], allowed: Container[str] | None) -> None:
        self._protocol, self._svid, self._allowed = protocol, svid, allowed
        self._alpn: list[str] = []
        self._made: tuple[X509Svid, ssl.SSLContext] | None = None
        self.check_hostname = False
        self.verify_mode = ssl.CERT_REQUIRED

    def _now(self) -> ssl.SSLContext:
        svid, made = self._svid(), self._made
        if made is None or made[0] is not svid:
            context = _context(self._protocol, svid, self._allowed)
            if self._alpn:
                context.set_alpn_protocols(self._alpn)
            made = self._made = (svid, context)
        return made[1]

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        self._alpn, self._made = list(alpn_protocols), None

    def wrap_socket(self, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        return self._now().wrap_socket(*arguments, **named)

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        return self._now().wrap_bio(*arguments, **named)


class TlsIdentity:
    """This process's SVID, kept fresh in the background of one event loop. Its contexts may be used in any thread."""

    def __init__(self, endpoint: str | None = None) -> None:
        self._api = WorkloadApi(endpoint)
        self._svid: X509Svid | None = None
        self._first: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @staticmethod
    async def start(endpoint: str | None = None) -> TlsIdentity:
        """Returns with the first SVID; raises as `WorkloadApi` does."""
        identity = TlsIdentity(endpoint)
        identity._first = asyncio.get_running_loop().create_future()
        identity._task = asyncio.create_task(identity._follow())
        try:
            await identity._first
        except BaseException:
            await identity.close()
            raise
        return identity

    @staticmethod
    @contextlib.contextmanager
    def in_background(endpoint: str | None = None) -> Iterator[TlsIdentity]:
        """With a thread and an event loop of its own, for programs that have none; raises as `start`."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="rempart-identity", daemon=True)
        thread.start()
        try:
            identity = asyncio.run_coroutine_threadsafe(TlsIdentity.start(endpoint), loop).result(TIMEOUT)
            try:
                yield identity
            finally:
                asyncio.run_coroutine_threadsafe(identity.close(), loop).result(TIMEOUT)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(TIMEOUT)
            loop.close()

    async def __aenter__(self) -> TlsIdentity:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._api.close()

    @property
    def svid(self) -> X509Svid:
        if self._svid is None:
            raise Unauthenticated("no_svid", "there is no SVID yet", "await TlsIdentity.start()")
        return self._svid

    def client_context(self, allowed: Container[str] | None = None) -> RotatingContext:
        """To connect; `allowed` are the SPIFFE IDs that may answer, by default all of the trust domain."""
        return RotatingContext(ssl.PROTOCOL_TLS_CLIENT, lambda: self.svid, allowed)

    def server_context(self, allowed: Container[str] | None = None) -> RotatingContext:
        """To listen; `allowed` are the SPIFFE IDs that may connect, by default all of the trust domain."""
        return RotatingContext(ssl.PROTOCOL_TLS_SERVER, lambda: self.svid, allowed)

    async def _follow(self) -> None:
        while True:
            try:
                async for svid in self._api.watch_x509_svid():
                    self._svid = svid
                    if self._first is not None and not self._first.done():
                        self._first.set_result(None)
            except RempartError as error:
                if self._first is not None and not self._first.done():
                    self._first.set_exception(error)
                    return
                await self._api.close()
                await asyncio.sleep(_RETRY)  # what we hold is valid for half of its lifetime yet
