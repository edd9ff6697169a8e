"""Our bundle for partners, on a TCP listener of its own (SPIFFE_Federation.md section 5.2).

https_spiffe: under the SVID `spiffe://TRUST_DOMAIN/rempart/bundle-endpoint`, which is renewed while it listens.
https_web: under a certificate of the operator's, or the gateway's. Strangers are bounded as agents' are.
"""

from __future__ import annotations

import os
import socket
import ssl

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput
from rempart.kernel.spiffe import SpiffeId
from rempart.protocols.http_pages import Ask, Page, Route, json_page, paged, routed
from rempart.wiring.process_workloads import BundleEndpointSettings
from rempart.workloads.identities import Identities
from rempart.workloads.local_x509 import LocalX509
from rempart.workloads.model import Entry, X509Svid
from rempart.workloads.workload_api import spiffe_bundle

from .agent_listener import AgentListener, load_key

PATH = "/bundle"


class BundleListener(AgentListener):
    """`GET /bundle`, and nothing else; the connection proves who answers, so the document needs no signature."""

    def __init__(
        self,
        identities: Identities,
        listening: socket.socket,
        x509: LocalX509,
        settings: BundleEndpointSettings,
        clock: Clock,
    ) -> None:
        async def bundle(ask: Ask) -> Page:
            known = identities.bundle()
            cache = {"cache-control": f"public, max-age={known.refresh_hint}"}
            return json_page(spiffe_bundle(known), cache)

        app = paged(routed([Route("GET", PATH, bundle)]))
        super().__init__(app, listening, x509, identities.trust_domain, clock)
        self._identities, self._settings = identities, settings
        id_ = SpiffeId(identities.trust_domain, "/rempart/bundle-endpoint")
        self._entry = Entry(id="", spiffe_id=id_, selectors=frozenset())

    async def _svid(self) -> X509Svid:
        if self._settings.profile == "https_web" and not self._settings.cert:
            return await self._identities.web_certificate()
        return await super()._svid()

    def _context(self, svid: X509Svid) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._settings.cert:
            _load_given(context, self._settings)
        else:
            load_key(context, svid)
        return context


def _load_given(context: ssl.SSLContext, settings: BundleEndpointSettings) -> None:
    descriptor = os.memfd_create("bundle-endpoint", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "w", closefd=False) as memory:
            memory.write(settings.key + "\n" + settings.cert)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError:
        raise BadInput("bad_certificate", "cert and key of [workloads.bundle_endpoint] don't belong together") from None
    finally:
        os.close(descriptor)
