"""Mutual TLS with one's SVID for `grpcio`, which takes no `ssl.SSLContext`: what a server shows and trusts follows by
itself, what a channel does is that of the moment in which it was made.

    server.add_secure_port("[::]:8443", server_credentials(identity))
    channel = grpc.secure_channel("10.0.0.7:8443", channel_credentials(identity), options=to("wallet.internal"))

A channel of grpcio knows names of hosts only: give the callee's entry `dns_names`, and it answers for one of those. Or
use grpclib, which takes the contexts of `rempart.sdk.tls`.
Needs the package `grpcio`, which Rempart itself doesn't.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import grpc

from rempart.kernel.errors import Denied, Unauthenticated
from rempart.kernel.spiffe import SpiffeId

from .spiffe import X509Svid
from .tls import TlsIdentity


def server_credentials(identity: TlsIdentity) -> grpc.ServerCredentials:
    """Who connects must have an SVID of the same trust domain; say who may with `peer` in each call."""
    shown: list[X509Svid] = []

    def configuration(svid: X509Svid) -> grpc.ServerCertificateConfiguration:
        shown[:] = [svid]
        pair = (svid.private_key_pem().encode(), svid.certificate_pem().encode())
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=svid.bundle_pem().encode())

    def follow() -> grpc.ServerCertificateConfiguration | None:
        return configuration(identity.svid) if shown[0] is not identity.svid else None

    first = configuration(identity.svid)
    return grpc.dynamic_ssl_server_credentials(first, follow, True)  # type: ignore[arg-type]  # None: nothing new, says grpcio


def channel_credentials(identity: TlsIdentity) -> grpc.ChannelCredentials:
    """For one channel; a channel that lives longer than an SVID is to be made anew. Always with `options=to(…)`."""
    svid = identity.svid
    return grpc.ssl_channel_credentials(
        svid.bundle_pem().encode(), svid.private_key_pem().encode(), svid.certificate_pem().encode()
    )


def to(dns_name: str) -> list[tuple[str, str]]:
    """Channel options: whoever answers must have this DNS name in its SVID, wherever the channel leads."""
    return [("grpc.ssl_target_name_override", dns_name)]


def peer(context: Any, allowed: Collection[str]) -> SpiffeId:
    """Who called, from the call's context, if one of `allowed`. Raises Unauthenticated `bad_svid` where the peer has no
    SPIFFE ID or several, Denied `peer_not_allowed`."""
    named = context.auth_context().get("peer_spiffe_id", [])
    if len(named) != 1:
        raise Unauthenticated("bad_svid", "the peer has not exactly one SPIFFE ID")
    spiffe_id = SpiffeId.parse(named[0].decode())
    if str(spiffe_id) not in allowed:
        raise Denied("peer_not_allowed", f"the peer is {spiffe_id}", "see who may call")
    return spiffe_id
