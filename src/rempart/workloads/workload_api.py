"""The SPIFFE Workload API (SPIFFE_Workload_API.md sections 3 to 6), as go-spiffe, py-spiffe and java-spiffe speak it.

Every call carries the metadata `workload.spiffe.io: true` (section 3: a page in a browser or a forged request can't),
else InvalidArgument. Who has no identity gets PermissionDenied, on every method.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from rempart.crypto.public_jwk import public_jwk
from rempart.kernel.errors import BadInput
from rempart.protocols.spiffe import messages as wire

from .grpc_stream import Rpc, Stream
from .identities import Identities
from .model import Bundle
from .process import Process
from .streams import LOOK_AGAIN, push_changes

SERVICE = "/SpiffeWorkloadAPI/"
_JWK = ("kty", "crv", "x", "y", "n", "e", "kid")
SECURITY_HEADER = "workload.spiffe.io"


def jwt_bundle(bundle: Bundle) -> bytes:
    """A JWKS of the JWT keys only, each with its `kid` (JWT-SVID standard section 5)."""
    names = ("kty", "crv", "x", "y", "n", "e", "kid", "alg")
    keys = [{name: jwk[name] for name in names if name in jwk} for jwk in bundle.jwt_keys]
    return json.dumps({"keys": keys}, separators=(",", ":")).encode()


def _ders(bundle: Bundle) -> bytes:
    return b"".join(root.der for root in bundle.roots)


def spiffe_bundle(bundle: Bundle) -> dict[str, Any]:
    """The bundle format (SPIFFE_Trust_Domain_and_Bundle.md section 4): X.509 keys without `kid`, JWT keys with."""
    x509_keys = [
        {**public_jwk(root.der), "use": "x509-svid", "x5c": [base64.b64encode(root.der).decode()]}
        for root in bundle.roots
    ]
    jwt_keys = [{**{n: jwk[n] for n in _JWK if n in jwk}, "use": "jwt-svid"} for jwk in bundle.jwt_keys]
    return {
        "keys": [*x509_keys, *jwt_keys],
        "spiffe_sequence": bundle.sequence,
        "spiffe_refresh_hint": bundle.refresh_hint,
    }


class WorkloadApi:
    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    def rpcs(self) -> Mapping[str, Rpc]:
        return {
            SERVICE + name: Rpc(self._checked(method), read, once)
            for name, method, read, once in (
                ("FetchX509SVID", self.fetch_x509_svid, wire.nothing, False),
                ("FetchX509Bundles", self.fetch_x509_bundles, wire.nothing, False),
                ("FetchJWTSVID", self.fetch_jwt_svid, wire.JwtSvidRequest.read, True),
                ("FetchJWTBundles", self.fetch_jwt_bundles, wire.nothing, False),
                ("ValidateJWTSVID", self.validate_jwt_svid, wire.ValidateRequest.read, True),
            )
        }

    def _checked(
        self, method: Callable[[Process, Any, Stream], Awaitable[None]]
    ) -> Callable[[Process, Stream], Awaitable[None]]:
        """Check the security header, read the one request."""

        async def call(process: Process, stream: Stream) -> None:
            if stream.values(SECURITY_HEADER) != ["true"]:
                raise BadInput("missing_security_header", f"the metadata {SECURITY_HEADER}: true is missing")
            request = await stream.recv_message()
            if request is None:
                raise BadInput("missing_request", "the request message is missing")
            await method(process, request, stream)

        return call

    async def fetch_x509_svid(self, process: Process, request: bytes, stream: Stream) -> None:
        async def make() -> tuple[bytes, float]:
            grant = await self._identities.grant(process)
            ours, *partners = self._identities.bundles(grant.entries)
            svids = [
                wire.x509_svid(
                    str(svid.spiffe_id),
                    chain=b"".join(certificate.der for certificate in svid.chain),
                    key=svid.key_der,
                    bundle=_ders(ours),
                    hint=svid.hint,
                )
                for svid in grant.svids
            ]
            federated = {partner.id: _ders(partner) for partner in partners}
            return wire.x509_svids(svids, federated), grant.refresh_at

        await push_changes(self._identities, process, make, stream.send_message)

    async def fetch_x509_bundles(self, process: Process, request: bytes, stream: Stream) -> None:
        async def make() -> tuple[bytes, float]:
            _, entries = await self._identities.identify(process)
            bundles = {bundle.id: _ders(bundle) for bundle in self._identities.bundles(entries)}
            return wire.x509_bundles(bundles), self._identities.clock.now() + LOOK_AGAIN

        await push_changes(self._identities, process, make, stream.send_message)

    async def fetch_jwt_bundles(self, process: Process, request: bytes, stream: Stream) -> None:
        async def make() -> tuple[bytes, float]:
            _, entries = await self._identities.identify(process)
            bundles = {bundle.id: jwt_bundle(bundle) for bundle in self._identities.bundles(entries)}
            return wire.jwt_bundles(bundles), self._identities.clock.now() + LOOK_AGAIN

        await push_changes(self._identities, process, make, stream.send_message)

    async def fetch_jwt_svid(self, process: Process, request: wire.JwtSvidRequest, stream: Stream) -> None:
        tokens = await self._identities.jwt_svids(process, list(request.audience), request.spiffe_id)
        await stream.send_message(wire.jwt_svids((str(one.spiffe_id), one.token, one.hint) for one in tokens))

    async def validate_jwt_svid(self, process: Process, request: wire.ValidateRequest, stream: Stream) -> None:
        _, entries = await self._identities.identify(process)
        spiffe_id, claims = self._identities.validate_jwt(request.svid, request.audience, entries)
        if isinstance(claims.get("aud"), str):
            claims = {**claims, "aud": [claims["aud"]]}  # always a list, as SPIRE gives it (RFC 7519 section 4.1.3)
        await stream.send_message(wire.validated(str(spiffe_id), claims))
