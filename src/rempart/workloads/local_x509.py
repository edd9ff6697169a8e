"""X.509-SVIDs signed by the issuing CA of this process."""

from __future__ import annotations

from rempart.crypto import x509
from rempart.kernel.clock import Clock

from .issuing import IssuingAuthority
from .model import Entry
from .ports import BundleStore


class LocalX509:
    """An `X509Signer`. `ttl` in seconds, for entries that don't say."""

    def __init__(self, authority: IssuingAuthority, store: BundleStore, clock: Clock, *, ttl: float) -> None:
        self._authority, self._store, self._clock, self._ttl = authority, store, clock, ttl

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        """Of this server and of the others, in the same order wherever it is asked."""
        ours, others = self._authority.roots, self._store.others.roots
        if not others:
            return ours
        both = {root.der: root for root in (*ours, *others)}.values()
        return tuple(sorted(both, key=lambda root: (root.not_before, root.fingerprint)))

    @property
    def generation(self) -> str:
        """The serial of the issuing CA. Raises Unavailable `no_issuing_authority`."""
        return self._authority.issuing().certificate.serial

    async def sign(self, entry: Entry, key: x509.EcKey | x509.CertificateRequest) -> tuple[x509.Certificate, ...]:
        issuing = self._authority.issuing()
        leaf = x509.sign_svid(
            key,
            entry.spiffe_id,
            dns_names=entry.dns_names,
            issuing=issuing.certificate,
            issuing_key=issuing.key,
            now=self._clock.now(),
            ttl=float(entry.ttl or self._ttl),
        )
        return leaf, *issuing.chain
