"""`[gateway] mtls_listen` and `mtls_client_ca` of rempart.toml: an entrance for programs with certificates."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rempart.crypto.client_chain import load_authorities
from rempart.kernel.errors import BadInput

from .check import Reader

_MOST = 256 * 1024  # bytes of PEM


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
    name = gateway.text("mtls_client_ca")
    if name and not host and not gateway.failed("mtls_listen"):
        gateway.refuse("mtls_client_ca", "certificates are asked for at mtls_listen only", "set mtls_listen, too")
    return MtlsSettings(host=host, port=port, authorities=_authorities(gateway, directory / name) if name else "")


def _authorities(gateway: Reader, file: Path) -> str:
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST + 1).decode("ascii")
        if len(text) > _MOST:
            raise BadInput("bad_authorities", f"{file} is larger than {_MOST} bytes")
        load_authorities(text)
    except OSError as error:
        gateway.refuse("mtls_client_ca", f"{file} can't be read: {error.strerror}", "name a file of PEM certificates")
    except UnicodeDecodeError:
        gateway.refuse("mtls_client_ca", f"{file} is not PEM", "name a file of PEM certificates")
    except BadInput as error:
        gateway.refuse("mtls_client_ca", error.reason, "name a file of PEM certificates of authorities")
    else:
        return text
    return ""
