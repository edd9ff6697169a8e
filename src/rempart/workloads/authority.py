"""The two roots and what they sign. Pure functions: only `servers/root_signer.py` ever holds a root's private key.

`spiffe` is the root of the trust domain: it signs issuing CAs for SVIDs. `web` is the root that browsers and `curl` are
told to trust: it signs issuing CAs that are constrained to the gateway's own names.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

from rempart.crypto import aead, x509
from rempart.crypto.ca_key import CaKey
from rempart.kernel.errors import BadInput
from rempart.kernel.spiffe import parse_trust_domain

from .root_rotation import NewRoot, Root

KINDS = ("spiffe", "web")
ROOT_TTL = 10 * 365 * 86400.0
SEAL_PURPOSE = "root-signer"
"""`aead.derive_key(master, SEAL_PURPOSE)` is the key that root keys are sealed under."""


def _checked(kind: str) -> str:
    if kind not in KINDS:
        raise BadInput("bad_authority", f"{kind!r} is not an authority", "use spiffe or web")
    return kind


def create_root(kind: str, trust_domain: str, *, ttl: float = ROOT_TTL, now: float | None = None) -> tuple[str, bytes]:
    """A new root: its certificate (PEM) and its private key (PKCS#8 DER), to be sealed at once by `seal_root_key`."""
    parse_trust_domain(trust_domain)
    key = x509.EcKey.generate()
    mark = secrets.token_hex(4)  # two roots that are trusted together have two names: verifiers look issuers up by name
    certificate = x509.self_sign_root(
        key,
        common_name=f"{trust_domain} {_checked(kind)} root {mark}",
        trust_domain=trust_domain if kind == "spiffe" else None,
        now=time.time() if now is None else now,
        ttl=ttl,
    )
    return certificate.pem().decode(), key.to_der()


def described(certificate: str, sealed: str) -> Root:
    """A root with what its certificate (PEM) says. Raises BadInput `bad_certificate`."""
    parsed = x509.Certificate.parse(x509.pem_to_ders(certificate)[0])
    return Root(certificate, sealed, parsed.fingerprint, parsed.not_before, parsed.not_after)


def new_root(kind: str, trust_domain: str, key: bytes, *, name: str = "") -> NewRoot:
    """A new root, its private key sealed under `key` (32 bytes), for a file called `name`."""
    certificate, private_key = create_root(kind, trust_domain)
    name = name or f"{kind}-root-{secrets.token_hex(8)}.sealed"
    sealed = seal_root_key(key, private_key, kind=kind, trust_domain=trust_domain)
    return NewRoot(described(certificate, name), sealed)


def _context(kind: str, trust_domain: str) -> bytes:
    return f"rempart/root/{_checked(kind)}/{trust_domain}".encode()


def seal_root_key(key: bytes, private_key_der: bytes, *, kind: str, trust_domain: str) -> bytes:
    """For `secrets/{kind}-root.sealed`. `key` is 32 bytes; a root sealed for one domain and kind opens for no other."""
    return aead.seal(key, private_key_der, _context(kind, trust_domain))


def unseal_root_key(key: bytes, sealed: bytes, *, kind: str, trust_domain: str) -> bytes:
    """Raises Integrity `seal_broken`."""
    return aead.unseal(key, sealed, _context(kind, trust_domain))


def sign_issuing(
    kind: str,
    trust_domain: str,
    *,
    root_certificate_pem: str,
    root_key_der: bytes = b"",
    root_key_pem: str = "",
    csr_pem: str,
    ttl: float,
    names: Sequence[str] = (),
    now: float | None = None,
) -> str:
    """The certificate (PEM) of an issuing CA. `names` (DNS names and addresses) bound what a `web` one may sign. The
    key is one of ours (DER), or that of an upstream authority (PEM).

    Raises BadInput `bad_certificate_request`, `bad_certificate`, `bad_private_key`, `bad_authority`,
    `unbounded_web_authority`.
    """
    parse_trust_domain(trust_domain)
    if _checked(kind) == "web" and not names:
        raise BadInput("unbounded_web_authority", "a web issuing CA needs the names that it is bound to")
    if not 0 < ttl <= ROOT_TTL:
        raise BadInput("bad_authority", f"an issuing CA cannot live {ttl} seconds")
    root = x509.Certificate.parse(x509.pem_to_ders(root_certificate_pem)[0])
    certificate = x509.sign_issuing(
        csr_pem,
        root=root,
        root_key=CaKey.from_pem(root_key_pem) if root_key_pem else x509.EcKey.from_der(root_key_der),
        common_name=f"{trust_domain} {kind} issuing",
        trust_domain=trust_domain if kind == "spiffe" else None,
        host_names=names if kind == "web" else (),
        now=time.time() if now is None else now,
        ttl=ttl,
    )
    return certificate.pem().decode()
