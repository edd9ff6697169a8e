"""Roots on disk: sealed keys and one state file per authority in `secrets/`, and the certificates that others read.

The state file is what counts, replaced at one stroke. A new key is on disk before a state names it, and an old one is
removed after none does; what a kill leaves behind is put right by the next `load`.
"""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

import msgspec

from rempart.crypto.x509 import pem_to_ders
from rempart.kernel.errors import Integrity
from rempart.workloads import authority
from rempart.workloads.root_rotation import Root, RootSet

from .state_files import write_file

PUBLIC = {"spiffe": "trust/bundle.pem", "web": "tls/ca.pem"}


class RootStore:
    """`sealing_key`: 32 bytes. One writer: the supervisor."""

    def __init__(self, state: Path, trust_domain: str, sealing_key: bytes) -> None:
        self._state, self._trust_domain, self._key = state, trust_domain, sealing_key
        self._secrets = state / "secrets"

    def load(self, kind: str) -> RootSet:
        """Create the first root when there is none. Raises Integrity `seal_broken` | `root_state_broken`."""
        roots = self._read(kind)
        for root in roots.roots:
            authority.unseal_root_key(self._key, self.sealed(root), kind=kind, trust_domain=self._trust_domain)
        self._show(kind, roots)
        return roots

    def _read(self, kind: str) -> RootSet:
        file, first, public = self._file(kind), f"{kind}-root.sealed", self._state / PUBLIC[kind]
        if file.exists():
            try:
                return msgspec.json.decode(file.read_bytes(), type=RootSet)
            except msgspec.DecodeError:
                raise Integrity("root_state_broken", f"{file} is damaged", "restore it from a backup") from None
        if any(self._secrets.glob(f"{kind}-root-*.sealed")) and not (self._secrets / first).exists():
            raise Integrity("root_state_broken", f"{file} is missing", "restore it from a backup")
        if (self._secrets / first).exists() and public.exists():
            return RootSet(current=Root(public.read_text(), first))
        return RootSet(current=self.create(kind, first))

    def create(self, kind: str, name: str = "") -> Root:
        """A new root, its key sealed on disk; nobody trusts it yet."""
        certificate, key = authority.create_root(kind, self._trust_domain)
        name = name or f"{kind}-root-{secrets.token_hex(8)}.sealed"
        sealed = authority.seal_root_key(self._key, key, kind=kind, trust_domain=self._trust_domain)
        write_file(self._secrets / name, sealed)
        return Root(certificate, name)

    def sealed(self, root: Root) -> bytes:
        try:
            return (self._secrets / root.sealed).read_bytes()
        except FileNotFoundError:
            raise Integrity("root_key_lost", f"{root.sealed} is missing", "restore it from a backup") from None

    def save(self, kind: str, roots: RootSet) -> None:
        """Durable when it returns. Raises a RempartError; then the old state or the new one counts."""
        write_file(self._file(kind), msgspec.json.encode(roots))
        self._show(kind, roots)

    def _show(self, kind: str, roots: RootSet) -> None:
        public = self._state / PUBLIC[kind]
        if not public.exists() or pem_to_ders(public.read_text()) != pem_to_ders(roots.pem):
            write_file(public, roots.pem.encode(), 0o644)
        kept = {root.sealed for root in roots.roots}
        for file in self._secrets.glob(f"{kind}-root*.sealed"):
            if file.name not in kept:
                with contextlib.suppress(OSError):  # the next start tries again
                    file.unlink()

    def _file(self, kind: str) -> Path:
        return self._secrets / f"{kind}-roots.json"
