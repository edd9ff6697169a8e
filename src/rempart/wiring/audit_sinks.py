"""`[[audit.sink]]` of rempart.toml: where events go besides. Secrets stand in no file: `${NAME}` takes them from the
environment of `rempart up`; certificates and keys are read there, so that the process `shipper` needs no files."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec

from rempart.backends.sink_tls import Trust
from rempart.crypto.webhooks import WebhookSigner
from rempart.kernel.errors import BadInput

from .check import Reader
from .receivers import URL, ip, pem_text, receiver_url, secret

PERSONAL = ("clear", "references")
_WAYS = "use clear, or references: persons by their ids alone"
TYPES = ("elasticsearch", "syslog", "jsonl", "webhook")


class SinkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`url` for elasticsearch and webhook, `host` and `port` for syslog, `path` for jsonl. PEM texts, not files.
    `personal`: `clear`, or `references` for persons by their ids alone."""

    name: str
    type: str
    url: str = ""
    host: str = ""
    port: int = 0
    path: str = ""
    index: str = ""
    username: str = ""
    password: str = ""
    api_key: str = ""
    secret: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    strict: bool = False
    personal: str = "clear"

    def __repr__(self) -> str:
        return f"SinkSettings(name={self.name!r}, type={self.type!r})"


def read_sinks(
    readers: list[Reader], directory: Path, environment: Mapping[str, str] = os.environ
) -> tuple[SinkSettings, ...]:
    """`directory`: where relative paths of certificates begin."""
    sinks = [_Sink(reader, directory, environment).read() for reader in readers]
    for index, (reader, sink) in enumerate(zip(readers, sinks, strict=True)):
        if sink.name and sink.name in {other.name for other in sinks[:index]}:
            reader.refuse("name", f"a sink {sink.name!r} is there already", "each has its own cursor, by its name")
    return tuple(sinks)


class _Sink:
    def __init__(self, reader: Reader, directory: Path, environment: Mapping[str, str]) -> None:
        self._reader, self._directory, self._environment = reader, directory, environment

    def read(self) -> SinkSettings:
        reader = self._reader
        name = reader.name("name", required=True)
        kind = reader.text("type", required=True)
        if kind and kind not in TYPES:
            reader.refuse("type", f"{kind[:40]!r} is no type of sink", "use " + ", ".join(TYPES))
        given: dict[str, object] = {"personal": reader.text("personal", default=PERSONAL[0])}
        if given["personal"] not in PERSONAL:
            reader.refuse("personal", f"personal data is given in no way {str(given['personal'])[:40]!r}", _WAYS)
        if kind == "jsonl":
            given["path"] = reader.text("path", default=f"{name}.jsonl")
        if kind == "syslog":
            given["host"], given["port"] = self._address()
            given["strict"] = reader.yes("strict")
        if kind in ("elasticsearch", "webhook"):
            given["url"] = receiver_url(reader, "url", reader.text("url", required=True, pattern=URL))
        if kind == "elasticsearch":
            given["index"] = reader.text("index", pattern=r"[a-z][a-z0-9._-]{0,63}", default="rempart")
            given |= self._credentials()
        if kind == "webhook":
            given["secret"] = secret(self._reader, "secret", self._environment, required=True)
            self._check_secret(str(given["secret"]))
        if kind in ("elasticsearch", "syslog", "webhook"):
            given |= self._trust(required=kind == "syslog")
        reader.no_more()
        return SinkSettings(name=name, type=kind, **given)  # type: ignore[arg-type]  # by the branches above

    def _address(self) -> tuple[str, int]:
        text = self._reader.text(
            "address", required=True, pattern=r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253})(:\d{1,5})?"
        )
        host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
        host, number = (host, int(port)) if colon else (text, 6514)  # RFC 5425 section 4.1
        if not 0 < number < 65536:
            self._reader.refuse("address", f"{number} is no port", "write HOST:6514")
        address = ip(host.strip("[]"))
        if address is not None and address.is_link_local:
            self._reader.refuse("address", f"{host} is link-local, where no receiver is", "name the receiver's host")
        return host.strip("[]"), number

    def _credentials(self) -> dict[str, str]:
        reader = self._reader
        username = reader.text("username", pattern=r"[^:\x00-\x1f]{1,255}")
        password = secret(self._reader, "password", self._environment, required=bool(username))
        api_key = secret(self._reader, "api_key", self._environment)
        if api_key and (username or password):
            reader.refuse("api_key", "an API key and a user are given", "use one of them")
        if api_key and not re.fullmatch(r"[A-Za-z0-9+/=_-]+", api_key):
            reader.refuse("api_key", "this is no API key", "give it as the server encoded it (base64)")
        return {"username": username, "password": password, "api_key": api_key}

    def _check_secret(self, found: str) -> None:
        if found:
            try:
                WebhookSigner(found)
            except BadInput as error:
                self._reader.refuse("secret", error.reason, error.remedy)

    def _trust(self, *, required: bool) -> dict[str, str]:
        reader, directory = self._reader, self._directory
        ca, certificate = (
            pem_text(reader, "ca", directory),
            pem_text(reader, "certificate", directory, required=required),
        )
        key = pem_text(reader, "key", directory, required=required or bool(certificate))
        if key and not certificate:
            self._reader.refuse("key", "there is a key without a certificate", "give both or none")
        if ca:
            try:
                ssl.create_default_context(cadata=ca)
            except (ssl.SSLError, ValueError):
                self._reader.refuse("ca", "this file holds no certificates", "name a PEM file")
        if not self._reader.failed("ca", "certificate", "key"):
            try:
                Trust(ca, certificate, key).context()
            except (ssl.SSLError, ValueError, OSError):
                self._reader.refuse("certificate", "certificate and key don't belong together", "name the key's own")
        return {"ca": ca, "certificate": certificate, "key": key}
