"""An upstream authority on disk: a CA of somebody else, in PEM files, that signs in place of a root of ours.

Its key is read for each signature and handed to the root-signer; nothing of it is kept. Trusted: who has that key can
be anybody in the trust domain.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from rempart.kernel.errors import BadInput, RempartError, Unavailable

MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Upstream:
    """PEM texts: `chain` is what signs, then what lies between it and `root`; empty where the root itself signs."""

    root: str
    chain: str
    key: str = field(repr=False)

    @property
    def signer(self) -> str:
        return self.chain or self.root


@dataclass(frozen=True, slots=True)
class DiskUpstream:
    """`bundle` holds the root where `cert` doesn't end with it."""

    cert: Path
    key: Path
    bundle: Path | None
    trust_domain: str

    def read(self) -> Upstream:
        """Raises Unavailable `bad_upstream`: files that are being replaced don't match for a moment."""
        from rempart.crypto.ca_key import CaKey, check_upstream  # the supervisor loads it where there is an upstream
        from rempart.crypto.x509 import ders_to_pem, pem_to_ders

        try:
            key = self._private()
            ders = pem_to_ders(_text(self.cert))
            roots = pem_to_ders(_text(self.bundle)) if self.bundle else []
            root = check_upstream(ders, roots, CaKey.from_pem(key), trust_domain=self.trust_domain, now=time.time())
        except RempartError as error:
            where = f"{self.cert}, {self.key}"
            raise Unavailable("bad_upstream", f"{where}: {error.reason}", error.remedy) from None
        chain = [der for der in ders if der != root]
        return Upstream(ders_to_pem([root]).decode(), ders_to_pem(chain).decode(), key)

    def stamp(self) -> object:
        """Differs once a file has changed. Raises Unavailable `bad_upstream`."""
        try:
            facts = [path.stat() for path in (self.cert, self.key, self.bundle) if path]
        except OSError as error:
            raise Unavailable("bad_upstream", f"{error.filename} can't be read: {error.strerror}") from None
        return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in facts)

    def _private(self) -> str:
        """Raises BadInput when others may read it."""
        text = _text(self.key)
        facts = self.key.stat()
        if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise BadInput("bad_upstream", f"{self.key} can be read by others", f"chmod 0400 {self.key}")
        return text


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise BadInput("bad_upstream", f"{path} is too large")
        return raw.decode("ascii")
    except OSError as error:
        raise BadInput("bad_upstream", f"{path} can't be read: {error.strerror}", "see its permissions") from None
    except UnicodeDecodeError:
        raise BadInput("bad_upstream", f"{path} is not PEM") from None
