"""Mutual TLS with one's SVID, for programs that speak it themselves instead of going through their sidecar.

    async with await TlsIdentity.start() as identity:
        reader, writer = await asyncio.open_connection(host, port, ssl=identity.client_context())
        peer = verify_peer(writer.get_extra_info("ssl_object"), {"spiffe://bank.example/wallet"})

A handshake proves that the trust domain's authority signed the peer's certificate, not who the peer is: names of hosts
play no part in it. So after every handshake, before any data, call `verify_peer` with the SPIFFE IDs that may be there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Container

from rempart.crypto.svid import verify_leaf
from rempart.kernel.errors import Denied, RempartError, Unauthenticated
from rempart.kernel.spiffe import SpiffeId

from .spiffe import WorkloadApi, X509Svid

_RETRY = 1.0


def _load(context: ssl.SSLContext, svid: X509Svid) -> None:
    """OpenSSL's Python face reads keys from files only; a memfd is one that never touches disk."""
    descriptor = os.memfd_create("svid", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "w", closefd=False) as memory:
            memory.write(svid.private_key_pem() + svid.certificate_pem())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _context(protocol: int, svid: X509Svid) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # SPIFFE IDs are checked instead: `verify_peer`
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=svid.bundle_pem())
    _load(context, svid)
    return context


def client_context(svid: X509Svid) -> ssl.SSLContext:
    """To connect as `svid`, trusting its trust domain only."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, svid)


def server_context(svid: X509Svid) -> ssl.SSLContext:
    """To listen as `svid`; who connects must have an SVID of the same trust domain."""
    return _context(ssl.PROTOCOL_TLS_SERVER, svid)


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


class TlsIdentity:
    """This process's SVID, kept fresh in the background of one event loop; connections that stand are not disturbed."""

    def __init__(self, endpoint: str | None = None) -> None:
        self._api = WorkloadApi(endpoint)
        self._svid: X509Svid | None = None
        self._client: ssl.SSLContext | None = None
        self._servers: list[ssl.SSLContext] = []
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

    def client_context(self) -> ssl.SSLContext:
        """For the next connection; ask for it each time, it changes when the SVID does."""
        if self._client is None:
            self._client = client_context(self.svid)
        return self._client

    def server_context(self) -> ssl.SSLContext:
        """For a listener; each handshake uses the SVID of that moment."""
        context = server_context(self.svid)
        self._servers.append(context)
        return context

    async def _follow(self) -> None:
        while True:
            try:
                async for svid in self._api.watch_x509_svid():
                    self._use(svid)
            except RempartError as error:
                if self._first is not None and not self._first.done():
                    self._first.set_exception(error)
                    return
                await self._api.close()
                await asyncio.sleep(_RETRY)  # what we hold is valid for half of its lifetime yet

    def _use(self, svid: X509Svid) -> None:
        self._svid, self._client = svid, None
        for context in self._servers:
            _load(context, svid)
            context.load_verify_locations(cadata=svid.bundle_pem())
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
