"""`[alerting]` of rempart.toml: who is told of alerts, by which channels, how often. Secrets stand in no file:
`${NAME}` takes them from the environment of `rempart up`."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec

from rempart.backends.sink_tls import Trust
from rempart.crypto.webhooks import WebhookSigner
from rempart.detection.alerting.incidents import Pace
from rempart.detection.alerting.model import ORDER
from rempart.kernel.errors import BadInput

from .check import Reader
from .people_mail import MailSettings, read_mail
from .receivers import pem_text, receiver_url, secret

TYPES = ("email", "slack", "webhook", "alertmanager")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,190}")
_MAX_RECIPIENTS = 20


class ChannelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`mail` and `to` for email, `url` for the rest; `ca` is a PEM text. Never shown: it holds secrets."""

    name: str
    type: str
    least: str = "medium"
    url: str = ""
    secret: str = ""
    username: str = ""
    password: str = ""
    ca: str = ""
    to: tuple[str, ...] = ()
    mail: MailSettings = MailSettings()

    def __repr__(self) -> str:
        return f"ChannelSettings(name={self.name!r}, type={self.type!r})"


class AlertingSettings(msgspec.Struct, frozen=True, kw_only=True):
    channels: tuple[ChannelSettings, ...] = ()
    pace: Pace = Pace()


def read_alerting(reader: Reader, directory: Path, environment: Mapping[str, str] = os.environ) -> AlertingSettings:
    """`directory`: where relative paths begin."""
    given = {
        name: reader.number(name, int(getattr(Pace(), name)), at_most=7 * 86_400)
        for name in ("gather", "again", "remind", "quiet")
    }
    readers = reader.tables("channel")
    channels = [_Channel(one, directory, environment).read() for one in readers]
    for index, (one, channel) in enumerate(zip(readers, channels, strict=True)):
        if channel.name and channel.name in {other.name for other in channels[:index]}:
            one.refuse("name", f"a channel {channel.name!r} is there already", "give each a name of its own")
    return AlertingSettings(
        channels=tuple(channels), pace=Pace(**{name: float(value) for name, value in given.items()})
    )


class _Channel:
    def __init__(self, reader: Reader, directory: Path, environment: Mapping[str, str]) -> None:
        self._reader, self._directory, self._environment = reader, directory, environment

    def read(self) -> ChannelSettings:
        reader, environment = self._reader, self._environment
        name = reader.name("name", required=True)
        kind = reader.text("type", required=True)
        if kind and kind not in TYPES:
            reader.refuse("type", f"{kind[:40]!r} is no type of channel", "use " + ", ".join(TYPES))
        least = reader.text("least", default="medium")
        if least not in {severity.value for severity in ORDER}:
            reader.refuse("least", f"{least[:40]!r} is no severity", "use " + ", ".join(one.value for one in ORDER))
            least = "medium"
        given: dict[str, object] = {}
        if kind == "email":
            given["to"] = self._recipients()
            mail = reader.table("mail", required=True)
            given["mail"] = read_mail(mail, environment)
        elif kind in TYPES:
            url = (
                secret(reader, "url", environment, required=True)
                if kind == "slack"
                else reader.text("url", required=True)
            )
            given["url"] = receiver_url(reader, "url", url)
            given["ca"] = self._ca()
        if kind == "webhook":
            given["secret"] = self._signing_secret()
        if kind == "alertmanager":
            given["username"] = reader.text("username", pattern=r"[^:\x00-\x1f]{1,255}")
            given["password"] = secret(reader, "password", environment, required=bool(given["username"]))
        reader.no_more()
        return ChannelSettings(name=name, type=kind, least=least, **given)  # type: ignore[arg-type]  # by the branches

    def _recipients(self) -> tuple[str, ...]:
        text = self._reader.text("to", required=True)
        found = tuple(one.strip() for one in text.split(",") if one.strip())
        if text and (not 0 < len(found) <= _MAX_RECIPIENTS or not all(map(_ADDRESS.fullmatch, found))):
            self._reader.refuse("to", "these are no mail addresses", f"write one to {_MAX_RECIPIENTS}, with commas")
        return found

    def _ca(self) -> str:
        ca = pem_text(self._reader, "ca", self._directory)
        if ca:
            try:
                Trust(ca).context()
            except (ssl.SSLError, ValueError):
                self._reader.refuse("ca", "this file holds no certificates", "name a PEM file")
        return ca

    def _signing_secret(self) -> str:
        found = secret(self._reader, "secret", self._environment, required=True)
        if found:
            try:
                WebhookSigner(found)
            except BadInput as error:
                self._reader.refuse("secret", error.reason, error.remedy)
        return found
