"""What a program is told about itself when Rempart starts it: only its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rempart.kernel.errors import BadInput
from rempart.kernel.spiffe import SpiffeId


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens: `path` of a unix socket, or `host` and `port`."""

    path: str = ""
    host: str = ""
    port: int = 0

    @staticmethod
    def parse(text: str) -> Address:
        """`unix:/abs/path`, `http+unix://%2Fabs%2Fpath`, `host:port` or `http://host:port`; raises BadInput
        `bad_address`.
        """
        if text.startswith("unix:"):
            path = "/" + text[5:].lstrip("/")
            if len(path) > 1:
                return Address(path=path)
        elif text.startswith("http+unix://"):
            path = unquote(text[12:].split("/", 1)[0])
            if path.startswith("/"):
                return Address(path=path)
        else:
            try:
                parts = urlsplit(text if "://" in text else f"http://{text}")
                if parts.scheme == "http" and parts.hostname and parts.port:
                    return Address(host=parts.hostname, port=parts.port)
            except ValueError:
                pass
        raise BadInput("bad_address", f"{text!r} is no address", "write unix:/path/to.sock or 127.0.0.1:8080")


@dataclass(frozen=True)
class Workload:
    """This program: its name, identity, directory, and the ways to other services (`urls`, by name)."""

    service: str
    trust_domain: str
    issuer: str
    spiffe_id: SpiffeId
    data_dir: Path
    listen: Address | None = None
    events: Address | None = None
    urls: Mapping[str, Address] = field(default_factory=dict)

    @staticmethod
    def from_environment(environ: Mapping[str, str] | None = None) -> Workload:
        """Raises BadInput `not_protected` when the program wasn't started by Rempart."""
        env = os.environ if environ is None else environ
        missing = [n for n in ("REMPART_SERVICE", "REMPART_TRUST_DOMAIN") if not env.get(n)]
        if missing:
            raise BadInput(
                "not_protected",
                f"{' and '.join(missing)} not set: this program wasn't started by Rempart",
                "start it with `rempart up`, or as a client with `rempart run NAME -- COMMAND`",
            )
        service, domain = env["REMPART_SERVICE"], env["REMPART_TRUST_DOMAIN"]
        given = env.get("REMPART_SPIFFE_ID")
        return Workload(
            service=service,
            trust_domain=domain,
            issuer=env.get("REMPART_ISSUER", ""),
            spiffe_id=SpiffeId.parse(given) if given else SpiffeId.of(domain, service),
            data_dir=Path(env.get("REMPART_DATA") or "."),
            listen=Address.parse(env["REMPART_LISTEN"]) if env.get("REMPART_LISTEN") else None,
            events=Address.parse(env["REMPART_EVENTS"]) if env.get("REMPART_EVENTS") else None,
            urls={
                name[8:-4].lower().replace("_", "-"): Address.parse(value)
                for name, value in env.items()
                if name.startswith("REMPART_") and name.endswith("_URL") and value
            },
        )

    def sibling(self, name: str) -> str:
        """The SPIFFE ID of another service of the same trust domain, as text."""
        return str(SpiffeId.of(self.trust_domain, name))

    def way_to(self, service: str) -> Address:
        """Raises BadInput `not_in_calls`."""
        try:
            return self.urls[service]
        except KeyError:
            raise BadInput(
                "not_in_calls",
                f"{self.service} has no way to {service}",
                f'add "{service}" to its `calls` in rempart.toml',
            ) from None
