"""A company's CA for its hosts, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def _openssl(*arguments: str) -> None:
    ran = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


class HostsCa:
    def __init__(self, directory: Path, name: str = "hosts") -> None:
        self._directory = directory
        self._ca, self._key = directory / f"{name}-ca.pem", directory / f"{name}-ca.key"
        self._make(self._ca, self._key, name, "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")

    @property
    def pem(self) -> str:
        return self._ca.read_text()

    def host(
        self, name: str, *, usage: str = "digitalSignature", purpose: str = "clientAuth", kind: str = "EC"
    ) -> tuple[Path, Path]:
        """Certificate and key, PEM; `kind` EC or RSA."""
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        extensions = (f"keyUsage=critical,{usage}", f"extendedKeyUsage={purpose}", "basicConstraints=critical,CA:FALSE")
        above = ("-CA", str(self._ca), "-CAkey", str(self._key))
        self._make(certificate, key, name, *extensions, above=above, kind=kind)
        return certificate, key

    def _make(
        self, certificate: Path, key: Path, name: str, *extensions: str, above: tuple[str, ...] = (), kind: str = "EC"
    ) -> None:
        new = ("rsa:2048",) if kind == "RSA" else ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        files = ("-keyout", str(key), "-out", str(certificate))
        wanted = [part for extension in extensions for part in ("-addext", extension)]
        _openssl(
            "req", "-x509", "-newkey", *new, "-nodes", "-days", "2", "-subj", f"/CN={name}", *files, *wanted, *above
        )
