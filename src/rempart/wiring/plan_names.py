"""What the gateway is called: the names on its certificate, and its URL."""

from __future__ import annotations

import ipaddress


def web_names(host: str) -> tuple[str, ...]:
    """The names on the gateway's server certificate: the loopback ones, and the address it listens on."""
    names = ["localhost", "127.0.0.1", "::1"]
    address = ipaddress.ip_address(host)
    if not address.is_loopback and not address.is_unspecified:
        names.append(host)
    return tuple(names)


def public_url(host: str, port: int) -> str:
    address = ipaddress.ip_address(host)
    if address.is_loopback or address.is_unspecified:
        return f"https://localhost:{port}"
    return f"https://[{host}]:{port}" if address.version == 6 else f"https://{host}:{port}"
