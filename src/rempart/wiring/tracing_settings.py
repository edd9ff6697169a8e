"""`[tracing]` of rempart.toml: where spans go. Without it nothing is traced, and tracing costs nothing."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rempart.kernel.errors import BadInput
from rempart.mesh.model import Tracing

from .check import Reader


def read_tracing(reader: Reader, directory: Path) -> Tracing | None:
    """`ca` is needed with https: Envoy doesn't know the host's."""
    endpoint = reader.text("endpoint", pattern=r"https?://[!-~]+", required=bool(reader.content))
    percent = reader.number("percent", 100, at_least=0, at_most=100)
    ca, ca_file = _pem(reader, directory)
    reader.no_more()
    if not endpoint:
        return None
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port or 4318
        found = Tracing(host=host, port=port, path=parts.path.rstrip("/"), percent=percent, ca=ca, ca_file=ca_file)
    except (ValueError, BadInput):
        reader.refuse("endpoint", "this is no address of a collector", "write http://127.0.0.1:4318")
        return None
    if parts.username is not None or parts.query or parts.fragment:
        reader.refuse("endpoint", "only a host, a port and a path are meant here", "write http://127.0.0.1:4318")
    elif parts.scheme == "http" and not _loopback(host):
        reader.refuse("endpoint", "without TLS only a collector on this host is used", "write https://… and ca")
    elif (parts.scheme == "https") != bool(ca) and not reader.failed("ca"):
        reader.refuse("ca", "https needs a ca, and http none", "name the PEM file of who certifies the collector")
    return found


def told(tracing: Tracing | None) -> dict[str, Any] | None:
    """What each process is told of it."""
    if tracing is None:
        return None
    return {"url": tracing.url, "ca": tracing.ca, "ca_file": tracing.ca_file, "percent": tracing.percent}


def _pem(reader: Reader, directory: Path) -> tuple[str, str]:
    """The certificates and the file they are in."""
    name = reader.text("ca")
    if not name:
        return "", ""
    try:
        text = (directory / name).read_text("ascii")
        ssl.create_default_context(cadata=text)
    except (OSError, ValueError, ssl.SSLError) as error:
        reader.refuse("ca", f"{directory / name} holds no certificates: {type(error).__name__}", "name a PEM file")
        return "", ""
    return text, str(directory / name)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
