"""The certificate that a client came with (RFC 8705): through the mesh, or at the gateway's own entrance for them.

Our sidecar says a workload's, the gateway a stranger's; what anybody else says of certificates is not read.
"""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote

from starlette.requests import Request

from rempart.crypto.client_chain import Authorities, ClientCertificate, Link, load_authorities, read_certificate
from rempart.kernel.clock import Clock
from rempart.people.model import Origin

HEADER = "x-client-cert"  # set by the gateway, which removes everybody else's
_XFCC_HASH = re.compile(r"(?:\A|;)Hash=([0-9a-f]{64})(?:;|\Z)")
_CHAIN = re.compile(r'(?:\A|;)Chain="([^"]*)"(?:;|\Z)')  # URL-encoded PEM, the client's own first
_MAX_HEADER = 24 * 1024


class ClientCertificates:
    """`gateway` is its SPIFFE ID; `authorities`, PEM or "", are those whose certificates name clients."""

    def __init__(self, clock: Clock, *, gateway: str, authorities: str = "") -> None:
        self._clock, self._gateway = clock, gateway
        self.authorities: Authorities = load_authorities(authorities) if authorities else ()

    def thumbprint(self, request: Request, origin: Origin) -> str:
        """`x5t#S256`, "" for none. A workload's own, and never the gateway's, through which everybody comes."""
        if origin.workload == self._gateway:
            certificate = self._brought(request)
            return _b64(certificate.digest) if certificate else ""
        headers = request.headers.getlist("x-forwarded-client-cert")
        if not origin.workload or len(headers) != 1 or "," in headers[0]:
            return ""
        found = _XFCC_HASH.search(headers[0])
        return _b64(bytes.fromhex(found[1])) if found else ""

    def named(self, request: Request, origin: Origin, name: str) -> tuple[Link, ...]:
        """The path to an authority of the operator's that says so: `dn:…`, `dns:…`, `uri:…`, `email:…`, `ip:…`. Empty
        when none does."""
        certificate = self._brought(request) if origin.workload == self._gateway else None
        if certificate is None or name not in certificate.names():
            return ()
        return certificate.path(self.authorities, self._clock.now())

    def _brought(self, request: Request) -> ClientCertificate | None:
        headers = request.headers.getlist(HEADER)
        if len(headers) != 1 or len(headers[0]) > _MAX_HEADER:
            return None
        found = _CHAIN.search(headers[0])
        return read_certificate(unquote(found[1])) if found else None


def _b64(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
