"""What the gateway is called: `[gateway] url` and `names`, the names on its certificate, and its URL.

However many names it answers to, people's tokens have one issuer: under `url`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from .check import Reader

if TYPE_CHECKING:
    from .settings import AppSettings

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?!.*\.[0-9]+\Z)(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")  # a DNS name, no address
_MOST = 32


class GatewayNames(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`url`: the origin that others reach the gateway by, "" for where it listens. `more`: further DNS names, at the
    same port."""

    url: str = ""
    more: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return (*((urlsplit(self.url).hostname or "",) if self.url else ()), *self.more)

    def here(self, host: str, port: int) -> str:
        """The origin, where the gateway listens there."""
        return self.url or public_url(host, port)

    def mtls(self, host: str, port: int) -> str:
        """The origin of the entrance for certificates, at the same name."""
        return f"https://{urlsplit(self.url).hostname}:{port}" if self.url else public_url(host, port)

    def others(self, url: str) -> tuple[str, ...]:
        """The origins of the further names, where `url` is the origin."""
        port = urlsplit(url).port
        return tuple(f"https://{name}" + (f":{port}" if port else "") for name in self.more)


def own_origins(app: AppSettings, issuer: str) -> list[str]:
    """At which the gateway answers, the issuer's first; the entrance for certificates is one, too."""
    if not issuer:
        return []
    url = issuer.removesuffix("/auth")
    mtls = [app.names.mtls(*app.mtls.listen)] if app.mtls.listen else []
    return [url, *app.names.others(url), *mtls]


def read_names(gateway: Reader) -> GatewayNames:
    url, more = gateway.text("url"), gateway.words("names")
    if url and not _is_origin(url):
        gateway.refuse("url", f"{url[:80]!r} is no https origin", 'as in url = "https://login.bank.example"')
        url = ""
    for name in more:
        if not _NAME.fullmatch(name):
            gateway.refuse("names", f"{name[:80]!r} is no DNS name in lower case", "without scheme, port and wildcard")
    if len(more) > _MOST or len(set(more)) != len(more):
        gateway.refuse("names", f"at most {_MOST} names, none twice")
    return GatewayNames(url=url, more=more)


def _is_origin(url: str) -> bool:
    """As clients write it: lower case, no path, and the port only where it isn't the usual one."""
    host, _, port = url.removeprefix("https://").partition(":")
    number = not port or (port.isdigit() and port[0] != "0" and port != "443" and int(port) < 65536)
    return url.startswith("https://") and bool(_NAME.fullmatch(host)) and number and not url.endswith(":")


def web_names(host: str, names: GatewayNames) -> tuple[str, ...]:
    """The names on the gateway's server certificate: the loopback ones, the address it listens on, and the given."""
    found = ["localhost", "127.0.0.1", "::1"]
    address = ipaddress.ip_address(host)
    if not address.is_loopback and not address.is_unspecified:
        found.append(host)
    return tuple(dict.fromkeys((*found, *names.all)))


def public_url(host: str, port: int) -> str:
    address = ipaddress.ip_address(host)
    if address.is_loopback or address.is_unspecified:
        return f"https://localhost:{port}"
    return f"https://[{host}]:{port}" if address.version == 6 else f"https://{host}:{port}"
