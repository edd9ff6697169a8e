"""`[people.mail]` of rempart.toml: the relay that takes people's mails. Without it they are files, for development."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from .check import Reader
from .receivers import ip, secret

_SENDER = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}"
SECURITY = ("tls", "starttls", "none")


class MailSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`host` empty: files. `password` is the word itself, taken from the environment: it stands in no file."""

    host: str = ""
    port: int = 0
    security: str = "tls"
    sender: str = ""
    username: str = ""
    password: str = ""
    ca: str = ""

    def __repr__(self) -> str:
        return f"MailSettings(host={self.host!r}, port={self.port}, security={self.security!r})"


def read_mail(reader: Reader, environment: Mapping[str, str] = os.environ) -> MailSettings:
    host = reader.text("host", pattern=r"[A-Za-z0-9.:-]{1,253}")
    security = reader.text("security", default="tls")
    port = reader.port("port")
    if security not in SECURITY:
        reader.refuse("security", f"{security[:40]!r} is none of them", "use " + ", ".join(SECURITY))
    if security == "none" and not _loopback(host):
        reader.refuse("security", "without encryption only a relay on this host is used", 'use "tls" or "starttls"')
    settings = MailSettings(
        host=host,
        port=port or {"tls": 465, "starttls": 587}.get(security, 25),
        security=security,
        sender=reader.text("from", pattern=_SENDER, required=bool(host)),
        username=reader.text("username"),
        password=secret(reader, "password", environment),
        ca=reader.text("ca"),
    )
    if settings.password and security == "none":
        reader.refuse("password", "a password is not sent without encryption", 'use "tls" or "starttls"')
    if reader.content and not host:
        reader.refuse("", "people.mail names no host", "add it, or leave the table out: mails are files then")
    reader.no_more()
    return settings


def _loopback(host: str) -> bool:
    address = ip(host)
    return host == "localhost" if address is None else address.is_loopback
