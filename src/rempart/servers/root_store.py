"""Roots on disk: sealed keys and one state file per authority in `secrets/`, and the certificates that others read.

The state file is what counts, replaced at one stroke. A new key is on disk before a state names it, and an old one is
removed after none does; what a kill leaves behind is put right by the next `load`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from rempart.kernel.errors import Integrity, Unavailable
from rempart.workloads.root_rotation import NewRoot, Root, RootSet

from .disk_upstream import DiskUpstream
from .state_files import write_file

PUBLIC = {"spiffe": "trust/bundle.pem", "web": "tls/ca.pem"}


UPSTREAM = "upstream"
"""In place of the name of a sealed key: the key lies with an upstream authority."""


@dataclass(frozen=True, slots=True)
class Signer:
    """What signs an issuing CA: its certificate (PEM), and its key either `sealed` or, of an upstream one, as PEM.
    `chain` (PEM) goes with what it signs: certificates below the root, the signer first."""

    certificate: str
    chain: str = ""
    sealed: bytes = b""
    upstream_key: str = field(default="", repr=False)


class RootStore:
    """`upstream` signs for the trust domain in place of a root of ours. One writer: the supervisor, and before it runs
    who starts it."""

    def __init__(self, state: Path, upstream: DiskUpstream | None = None) -> None:
        self._state, self._upstream = state, upstream
        self.secrets = state / "secrets"
        self._seen: object = None

    def load(self, kind: str) -> RootSet | None:
        """None before the first start. Raises Integrity `root_state_broken`."""
        file, first, public = self._file(kind), f"{kind}-root.sealed", self._state / PUBLIC[kind]
        if file.exists():
            try:
                return msgspec.json.decode(file.read_bytes(), type=RootSet)
            except msgspec.DecodeError:
                raise Integrity("root_state_broken", f"{file} is damaged", "restore it from a backup") from None
        if any(self.secrets.glob(f"{kind}-root-*.sealed")) and not (self.secrets / first).exists():
            raise Integrity("root_state_broken", f"{file} is missing", "restore it from a backup")
        if (self.secrets / first).exists() and public.exists():  # as earlier versions left it
            return RootSet(current=Root(public.read_text(), first))
        return None

    def keep(self, new: NewRoot) -> Root:
        """Its sealed key is on disk when this returns; nobody trusts it yet."""
        write_file(self.secrets / new.root.sealed, new.sealed_key)
        return new.root

    def upstream_root(self) -> Root:
        """The upstream authority's, as it is now. Raises Unavailable `bad_upstream`."""
        if self._upstream is None:
            raise Unavailable("bad_upstream", "there is no upstream authority", "name one in rempart.toml")
        from rempart.workloads.authority import described  # cryptography, which other supervisors never load

        return described(self._upstream.read().root, UPSTREAM)

    def is_upstream(self, kind: str) -> bool:
        return kind == "spiffe" and self._upstream is not None

    def has_changed(self, kind: str, root: Root) -> bool:
        """Is `root` not the one that should sign: because rempart.toml names an upstream authority now, or none any
        more, or because that has another root? Its files are read again only when they have changed.

        Raises Unavailable `bad_upstream`.
        """
        if self.is_upstream(kind) != (root.sealed == UPSTREAM):
            return True
        if self._upstream is None or root.sealed != UPSTREAM or (seen := self._upstream.stamp()) == self._seen:
            return False
        changed = self._upstream.read().root != root.certificate
        if not changed:
            self._seen = seen
        return changed

    def signer(self, root: Root) -> Signer:
        """Raises Integrity `root_key_lost`, Unavailable `bad_upstream` | `upstream_changed` (it is not `root`'s)."""
        if root.sealed != UPSTREAM:
            return Signer(root.certificate, sealed=self.sealed(root))
        if self._upstream is None:
            raise Unavailable("upstream_changed", "the upstream authority is not in rempart.toml any more")
        upstream = self._upstream.read()
        if upstream.root != root.certificate:
            raise Unavailable("upstream_changed", "the upstream authority has another root now: it is being taken over")
        return Signer(upstream.signer, upstream.chain, upstream_key=upstream.key)

    def sealed(self, root: Root) -> bytes:
        try:
            return (self.secrets / root.sealed).read_bytes()
        except FileNotFoundError:
            raise Integrity("root_key_lost", f"{root.sealed} is missing", "restore it from a backup") from None

    def save(self, kind: str, roots: RootSet) -> None:
        """Durable when it returns. Raises a RempartError; then the old state or the new one counts."""
        write_file(self._file(kind), msgspec.json.encode(roots))
        self.show(kind, roots)

    def show(self, kind: str, roots: RootSet) -> None:
        """For who reads certificates. What no state names any more is removed."""
        public = self._state / PUBLIC[kind]
        if not public.exists() or public.read_text() != roots.pem:
            write_file(public, roots.pem.encode(), 0o644)
        kept = {root.sealed for root in roots.roots}
        for file in self.secrets.glob(f"{kind}-root*.sealed"):
            if file.name not in kept:
                with contextlib.suppress(OSError):  # the next start tries again
                    file.unlink()

    def _file(self, kind: str) -> Path:
        return self.secrets / f"{kind}-roots.json"
