"""`[gateway] mtls_listen` and `mtls_client_ca` of rempart.toml: an entrance for programs with certificates."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rempart.crypto.client_chain import check_for_clients
from rempart.kernel.errors import BadInput

from .authorities import read_authorities
from .check import Reader


class MtlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`host` empty: there is no such entrance. `authorities`: PEM of those whose certificates name clients."""

    host: str = ""
    port: int = 0
    authorities: str = ""

    @property
    def listen(self) -> tuple[str, int] | None:
        return (self.host, self.port) if self.host else None


def read_mtls(gateway: Reader, directory: Path) -> MtlsSettings:
    host, port = gateway.address("mtls_listen", "", 0)
    if host and port == 0:
        gateway.refuse("mtls_listen", "programs elsewhere must know this port", "name one")
    authorities = read_authorities(gateway, "mtls_client_ca", directory)
    try:
        if authorities:
            check_for_clients(authorities)
    except BadInput as error:
        gateway.refuse("mtls_client_ca", error.reason, "leave it out; programs may still be known by --cert")
    if "mtls_client_ca" in gateway.content and not host and not gateway.failed("mtls_listen"):
        gateway.refuse("mtls_client_ca", "certificates are asked for at mtls_listen only", "set mtls_listen, too")
    return MtlsSettings(host=host, port=port, authorities=authorities)
