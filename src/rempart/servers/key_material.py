"""The master key and the two roots: created at the first start, checked at every other one."""

from __future__ import annotations

import base64
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from rempart.crypto.aead import derive_key
from rempart.crypto.x509 import Certificate, pem_to_ders
from rempart.kernel.errors import BadInput, Integrity, Unavailable
from rempart.wiring.plan import Roots
from rempart.workloads import authority

from .disk_upstream import DiskUpstream
from .root_store import RootStore, Signer
from .state_files import write_file

KEY_FILE_VARIABLE = "REMPART_MASTER_KEY_FILE"


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """`master` is 32 bytes and never leaves the supervisor; processes get keys derived from it."""

    state: Path
    trust_domain: str
    master: bytes
    upstream: DiskUpstream | None = None

    def process_key(self, name: str) -> bytes:
        return derive_key(self.master, f"process/{name}")

    def root_store(self) -> RootStore:
        return RootStore(self.state, self.trust_domain, derive_key(self.master, authority.SEAL_PURPOSE), self.upstream)

    def signing_job(
        self, kind: str, csr: str, *, signer: Signer, ttl: float, names: tuple[str, ...]
    ) -> dict[str, object]:
        """The document for `servers/root_signer.py`, which alone unseals a root key."""
        own = {
            "sealed": base64.b64encode(signer.sealed).decode(),
            "key": derive_key(self.master, authority.SEAL_PURPOSE).hex(),
        }
        return {
            "kind": kind,
            "trust_domain": self.trust_domain,
            "root": signer.certificate,
            **({"upstream_key": signer.upstream_key} if signer.upstream_key else own),
            "csr": csr,
            "ttl": ttl,
            "names": list(names) if kind == "web" else [],
        }


def master_key(state: Path, profile: str) -> bytes:
    """From the file that REMPART_MASTER_KEY_FILE names (64 hexadecimal digits or 32 bytes), else `secrets/master.key`.

    Raises BadInput `bad_master_key` when the file isn't the owner's alone, and in production when there is none.
    """
    named = os.environ.get(KEY_FILE_VARIABLE)
    if named:
        return _read_key(Path(named))
    if profile == "production":
        raise BadInput(
            "master_key_missing",
            "the production profile does not keep its master key in the state directory",
            f"set {KEY_FILE_VARIABLE} to a file of mode 0400 with 64 hexadecimal digits (`openssl rand -hex 32`)",
        )
    own = state / "secrets" / "master.key"
    if not own.exists():
        if any((state / "secrets").glob("*-root*.sealed")):
            raise Integrity(
                "master_key_lost",
                f"{own} is missing, and what is sealed in {state} can't be opened without it",
                f"restore it, or set {KEY_FILE_VARIABLE}",
            )
        write_file(own, os.urandom(32).hex().encode() + b"\n")
    return _read_key(own)


def _read_key(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput("bad_master_key", f"the master key {path} can't be read: {error.strerror}") from None
    with os.fdopen(fd, "rb") as file:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
            raise BadInput(
                "bad_master_key", f"{path} can be read by others than user {os.geteuid()}", f"chmod 0400 {path}"
            )
        content = file.read(200)
    try:
        key = content if len(content) == 32 else bytes.fromhex(content.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise BadInput("bad_master_key", f"{path} does not hold 32 bytes", "write 64 hexadecimal digits into it")
    return key


def ensure_roots(state: Path, trust_domain: str, master: bytes, upstream: DiskUpstream | None = None) -> Roots:
    """Create what is missing, check what is there.

    Raises Integrity `seal_broken`, Unavailable `clock_before_start` | `bad_upstream`.
    """
    store = RootStore(state, trust_domain, derive_key(master, authority.SEAL_PURPOSE), upstream)
    certificates = {}
    for kind in authority.KINDS:
        try:
            roots = store.load(kind)
        except Integrity as error:
            if error.code != "seal_broken":
                raise
            raise Integrity(
                "seal_broken",
                f"the {kind} root in {state / 'secrets'} does not open with this master key and trust domain",
                f"use the master key that it was made with ({KEY_FILE_VARIABLE}), or another --state",
            ) from None
        certificates[kind] = roots.pem
        check_clock(kind, roots.current.certificate, time.time())
    return Roots(spiffe=certificates["spiffe"], web=certificates["web"])


def check_clock(kind: str, pem: str, now: float) -> None:
    certificate = Certificate.parse(pem_to_ders(pem)[0])
    if now < certificate.not_before:
        raise Unavailable(
            "clock_before_start",
            f"the clock of this host is before {time.ctime(certificate.not_before)}, when the {kind} root was made",
            "set the clock",
        )
    if now > certificate.not_after:
        raise Unavailable(
            "root_expired", f"the {kind} root has expired", "set the clock, or start with another --state"
        )
