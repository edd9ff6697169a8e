"""How sinks prove who they are talking to: TLS 1.2 or later, the receiver's certificate verified, our own if asked."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Trust:
    """PEM texts. `ca` empty: the host's. `certificate` and `key` (unencrypted) together or not at all."""

    ca: str = ""
    certificate: str = ""
    key: str = field(default="", repr=False)

    def context(self) -> ssl.SSLContext:
        """Raises ssl.SSLError for PEM texts that are none."""
        context = ssl.create_default_context(cadata=self.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate:
            fd = os.memfd_create("sink", os.MFD_CLOEXEC)  # OpenSSL reads files only; this one is on no disk
            try:
                os.write(fd, f"{self.certificate}\n{self.key}\n".encode())
                context.load_cert_chain(f"/proc/self/fd/{fd}")
            finally:
                os.close(fd)
        return context
