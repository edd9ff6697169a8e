"""Envoy's secret discovery service, state of the world (xDS protocol, "ACK/NACK and resource type instance version").

Names as SPIRE has them: the caller's SPIFFE ID or `default` give its certificate and key; a trust domain's ID, or
`ROOTCA` for our own, the SPIFFE validator with its roots; `ALL` with those of every domain that the caller trusts. No
names at all: every certificate and every trust domain. An Envoy before 1.18, or one whose node metadata say
`disable_spiffe_cert_validation`, gets plain roots. `web` is the server certificate, for the gateway only.
A name that isn't the caller's ends the stream with PermissionDenied and is recorded: silence would leave an Envoy
waiting for ever without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Mapping, Sequence

from rempart.crypto.x509 import ders_to_pem
from rempart.kernel.errors import BadInput, Denied
from rempart.protocols.sds import messages as wire

from .grpc_stream import Rpc, Stream
from .identities import Grant, Identities
from .model import Bundle, X509Svid
from .process import Process
from .streams import push_changes

SERVICE = "/envoy.service.secret.v3.SecretDiscoveryService/"
METHOD = SERVICE + "StreamSecrets"
MAX_NAMES = 32


class SecretDiscovery:
    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self.rejected = 0
        """Secrets that an Envoy refused (NACK)."""

    def rpcs(self) -> Mapping[str, Rpc]:
        return {
            METHOD: Rpc(self.stream_secrets, wire.DiscoveryRequest.read),
            SERVICE + "FetchSecrets": Rpc(self.fetch_secrets, wire.DiscoveryRequest.read),
        }

    async def fetch_secrets(self, process: Process, stream: Stream) -> None:
        """The same once, without a stream."""
        request = await stream.recv_message()
        if request is None:
            raise BadInput("missing_request", "the request message is missing")
        _check(request)
        subscription = _Subscription()
        subscription.ask(request)
        secrets, _ = await self._secrets(process, subscription)
        await stream.send_message(wire.response(secrets))

    async def stream_secrets(self, process: Process, stream: Stream) -> None:
        subscription = _Subscription()
        reading = asyncio.create_task(self._read(subscription, stream))
        pushing = asyncio.create_task(self._push(subscription, process, stream))
        try:
            done, _ = await asyncio.wait({reading, pushing}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (reading, pushing):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):  # its error, if any, was raised above
                    await task

    async def _read(self, subscription: _Subscription, stream: Stream) -> None:
        async for request in stream:
            _check(request)
            if request.nonce and request.nonce != subscription.nonce:
                continue  # an answer to what has been superseded
            if request.rejected:
                self.rejected += 1  # the Envoy keeps what it had; the next change is offered again
            subscription.ask(request)

    async def _push(self, subscription: _Subscription, process: Process, stream: Stream) -> None:
        await subscription.begun.wait()
        versions = itertools.count(1)

        async def make() -> tuple[tuple[tuple[str, ...], tuple[bytes, ...]], float]:
            names = subscription.names
            secrets, refresh_at = await self._secrets(process, subscription)
            return (names, tuple(secrets)), refresh_at

        async def send(state: tuple[tuple[str, ...], tuple[bytes, ...]]) -> None:
            if not state[1]:
                return
            version = str(next(versions))
            subscription.nonce = version
            await stream.send_message(wire.response(state[1], version))

        await push_changes(self._identities, process, make, send, also=subscription.changed)

    async def _secrets(self, process: Process, subscription: _Subscription) -> tuple[list[bytes], float]:
        grant = await self._identities.grant(process)
        bundles = self._identities.bundles(grant.entries)
        refresh_at = grant.refresh_at
        secrets = []
        everything = (*(bundle.id for bundle in bundles), *dict.fromkeys(str(svid.spiffe_id) for svid in grant.svids))
        for name in subscription.names or everything:
            secret = _trust(name, bundles, plain=subscription.plain) or self._certificate(name, grant)
            if secret is None and name == "web":
                web = await self._identities.web(grant)
                if web is not None:
                    secret = _tls(name, web[0])
                    refresh_at = min(refresh_at, web[1])
            if secret is None:
                error = Denied("not_this_identity", f"the secret {name[:200]!r} is not for the calling process")
                await self._identities.refuse(process, error)
                raise error
            secrets.append(secret)
        return secrets, refresh_at

    def _certificate(self, name: str, grant: Grant) -> bytes | None:
        for svid in grant.svids:
            if name in ("default", str(svid.spiffe_id)):
                return _tls(name, svid)
        return None


def _check(request: wire.DiscoveryRequest) -> None:
    if request.type_url not in ("", wire.SECRET):
        raise BadInput("bad_type_url", f"only {wire.SECRET} is served here")
    if len(request.names) > MAX_NAMES:
        raise BadInput("too_many_names", f"a stream may ask for {MAX_NAMES} secrets")


def _trust(name: str, bundles: Sequence[Bundle], *, plain: bool) -> bytes | None:
    """`bundles`: ours first. Roots of several domains are never given without saying whose they are."""
    named = [bundle for bundle in bundles if bundle.id == name] or (list(bundles[:1]) if name == "ROOTCA" else [])
    if name == "ALL":
        named, plain = list(bundles), False
    if not named:
        return None
    if plain:
        return wire.roots(name, _pem(named[0]))
    return wire.validator(name, ((bundle.trust_domain, _pem(bundle)) for bundle in named))


def _pem(bundle: Bundle) -> bytes:
    return ders_to_pem([root.der for root in bundle.roots])


class _Subscription:
    """What one stream asks for. `nonce` is that of the last response. `plain`: its Envoy can't, or shall not, use the
    SPIFFE validator; an Envoy says what it is in its first request only."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.plain = False
        self.nonce = ""
        self.begun = asyncio.Event()
        self.changed = asyncio.Event()

    def ask(self, request: wire.DiscoveryRequest) -> None:
        names = tuple(name for name in request.names if name)
        plain = self.plain if request.node is None else _wants_plain(request.node)
        if (names, plain) != (self.names, self.plain):
            self.names, self.plain = names, plain
            self.changed.set()
        self.begun.set()


def _wants_plain(node: wire.Node) -> bool:
    if node.said.get("disable_spiffe_cert_validation", "").lower() in ("1", "t", "true"):
        return True
    return node.version is not None and node.version < (1, 18)


def _tls(name: str, svid: X509Svid) -> bytes:
    return wire.certificate(name, ders_to_pem([one.der for one in svid.chain]), svid.key.to_pem())
