"""Fetch a partner's bundle: profile https_web (Web PKI) or https_spiffe (its endpoint shows an SVID of its domain).

Trusted: who can answer at a partner's endpoint decides who is who in that trust domain, and in no other.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rempart.crypto.svid import verify_leaf
from rempart.crypto.x509 import Certificate, ders_to_pem
from rempart.kernel.errors import RempartError, Unavailable
from rempart.workloads.federation import Partner
from rempart.workloads.foreign_bundle import MAX_BYTES

if TYPE_CHECKING:
    import httpx

TIMEOUT = 10.0


class HttpsBundles:
    """A `BundleSource`. Redirects are not followed, proxies of the environment not used."""

    async def fetch(self, partner: Partner, roots: Sequence[Certificate]) -> bytes:
        import httpx

        if partner.profile == "https_spiffe" and not roots:
            raise _failed(partner, "nothing is known of it yet: give its first bundle in rempart.toml")
        body = bytearray()
        try:
            context = _context(partner, roots)
            async with (
                asyncio.timeout(TIMEOUT),
                httpx.AsyncClient(verify=context, timeout=TIMEOUT, trust_env=False) as client,
                client.stream("GET", partner.url) as answer,
            ):
                if partner.profile == "https_spiffe":
                    _verify(answer, partner)
                if answer.status_code != 200:
                    raise _failed(partner, f"it answers {answer.status_code}")
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > MAX_BYTES:
                        raise _failed(partner, f"it answers with more than {MAX_BYTES} bytes")
        except (httpx.HTTPError, OSError, TimeoutError, ValueError) as error:
            raise _failed(partner, str(error)[:200] or type(error).__name__) from None
        return bytes(body)


def _context(partner: Partner, roots: Sequence[Certificate]) -> ssl.SSLContext:
    if partner.profile == "https_web":
        return ssl.create_default_context(cafile=partner.ca or None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # the SPIFFE ID is checked instead
    context.load_verify_locations(cadata=ders_to_pem([root.der for root in roots]).decode())
    return context


def _verify(answer: httpx.Response, partner: Partner) -> None:
    """Raises Unavailable: who answers is not the endpoint's SPIFFE ID."""
    stream: Any = answer.extensions.get("network_stream")
    connection = stream.get_extra_info("ssl_object") if stream is not None else None
    der = connection.getpeercert(binary_form=True) if connection is not None else None
    try:
        found = verify_leaf(der or b"")
    except RempartError as error:
        raise _failed(partner, error.reason) from None
    if str(found) != partner.endpoint_id:
        raise _failed(partner, f"{found} answers there, not {partner.endpoint_id}")


def _failed(partner: Partner, why: str) -> Unavailable:
    return Unavailable("no_bundle", f"the bundle of {partner.trust_domain} at {partner.url} can't be fetched: {why}")
