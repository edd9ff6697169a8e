"""Envoy's secret discovery service, state of the world (xDS protocol, "ACK/NACK and resource type instance version").

Names: the caller's SPIFFE ID or `default` give its certificate and key; `ROOTCA` or the trust domain's ID the roots;
`ALL` the SPIFFE validator; `web` the server certificate, to the gateway only. A name that isn't the caller's ends the
stream with PermissionDenied and is recorded: silence would leave an Envoy waiting for ever without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from grpclib.const import Handler

from rempart.crypto.x509 import ders_to_pem
from rempart.kernel.errors import BadInput, Denied
from rempart.protocols.sds import sds_pb2 as wire

from .grpc_server import stream_stream
from .identities import Grant, Identities
from .model import X509Svid
from .process import Process
from .streams import LOOK_AGAIN, push_changes

METHOD = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # nosec B105 - a type's name
VALIDATOR_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"
MAX_NAMES = 32


class SecretDiscovery:
    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self.rejected = 0
        """Secrets that an Envoy refused (NACK)."""

    def __mapping__(self) -> dict[str, Handler]:
        return {METHOD: stream_stream(self.stream_secrets, wire.DiscoveryRequest, wire.DiscoveryResponse)}

    async def stream_secrets(self, process: Process, stream: Any) -> None:
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

    async def _read(self, subscription: _Subscription, stream: Any) -> None:
        async for request in stream:
            if request.type_url not in ("", SECRET_TYPE):
                raise BadInput("bad_type_url", f"only {SECRET_TYPE} is served here")
            if len(request.resource_names) > MAX_NAMES:
                raise BadInput("too_many_names", f"a stream may ask for {MAX_NAMES} secrets")
            if request.response_nonce and request.response_nonce != subscription.nonce:
                continue  # an answer to what has been superseded
            if request.HasField("error_detail"):
                self.rejected += 1  # the Envoy keeps what it had; the next change is offered again
            subscription.ask(tuple(request.resource_names))

    async def _push(self, subscription: _Subscription, process: Process, stream: Any) -> None:
        await subscription.begun.wait()
        versions = itertools.count(1)

        async def make() -> tuple[tuple[tuple[str, ...], tuple[bytes, ...]], float]:
            names = subscription.names
            if not names:
                return (names, ()), self._identities.clock.now() + LOOK_AGAIN
            secrets, refresh_at = await self._secrets(process, names)
            return (names, tuple(secret.SerializeToString(deterministic=True) for secret in secrets)), refresh_at

        async def send(state: tuple[tuple[str, ...], tuple[bytes, ...]]) -> None:
            if not state[1]:
                return
            version = str(next(versions))
            subscription.nonce = version
            resources = [AnyMessage(type_url=SECRET_TYPE, value=secret) for secret in state[1]]
            await stream.send_message(
                wire.DiscoveryResponse(version_info=version, nonce=version, type_url=SECRET_TYPE, resources=resources)
            )

        await push_changes(self._identities, make, send, also=subscription.changed)

    async def _secrets(self, process: Process, names: tuple[str, ...]) -> tuple[list[wire.Secret], float]:
        grant = await self._identities.grant(process)
        refresh_at = grant.refresh_at
        secrets = []
        for name in names:
            secret = self._trust(name) or self._certificate(name, grant)
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

    def _certificate(self, name: str, grant: Grant) -> wire.Secret | None:
        for svid in grant.svids:
            if name in ("default", str(svid.spiffe_id)):
                return _tls(name, svid)
        return None

    def _trust(self, name: str) -> wire.Secret | None:
        bundle = self._identities.bundle()
        roots = wire.DataSource(inline_bytes=ders_to_pem([root.der for root in bundle.roots]))
        if name in ("ROOTCA", bundle.id):
            context = wire.CertificateValidationContext(trusted_ca=roots)
        elif name == "ALL":
            domains = [wire.SPIFFECertValidatorConfig.TrustDomain(name=bundle.trust_domain, trust_bundle=roots)]
            validator = _packed(VALIDATOR_TYPE, wire.SPIFFECertValidatorConfig(trust_domains=domains))
            context = wire.CertificateValidationContext(
                custom_validator_config=wire.TypedExtensionConfig(
                    name="envoy.tls.cert_validator.spiffe", typed_config=validator
                )
            )
        else:
            return None
        return wire.Secret(name=name, validation_context=context)


class _Subscription:
    """What one stream asks for. `nonce` is that of the last response."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.nonce = ""
        self.begun = asyncio.Event()
        self.changed = asyncio.Event()

    def ask(self, names: tuple[str, ...]) -> None:
        if names != self.names:
            self.names = names
            self.changed.set()
        self.begun.set()


def _tls(name: str, svid: X509Svid) -> wire.Secret:
    return wire.Secret(
        name=name,
        tls_certificate=wire.TlsCertificate(
            certificate_chain=wire.DataSource(inline_bytes=ders_to_pem([c.der for c in svid.chain])),
            private_key=wire.DataSource(inline_bytes=svid.key.to_pem()),
        ),
    )


def _packed(type_url: str, message: Message) -> AnyMessage:
    return AnyMessage(type_url=type_url, value=message.SerializeToString(deterministic=True))
