"""Mails over real SMTP: to a sink that speaks TLS with a certificate of its own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from tests.pages_site import write_certificate
from tests.support import free_port

from rempart.backends.smtp_mailer import Relay, SmtpMailer
from rempart.kernel.errors import Unavailable

# The sink can't see that the whole connection is TLS.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
PASSWORD = "relay secret"  # nosec B105 - of the sink


class Sink:
    def __init__(self) -> None:
        self.got: list[tuple[str, list[str], EmailMessage]] = []
        self.refusing = False

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refusing:
            return "451 not now"
        mail = message_from_bytes(envelope.content, policy=default)
        assert isinstance(mail, EmailMessage)
        self.got.append((envelope.mail_from, envelope.rcpt_tos, mail))
        return "250 taken"


def authenticate(server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    assert isinstance(data, LoginPassword)
    return AuthResult(success=data.password == PASSWORD.encode(), handled=False)


@contextmanager
def sink(directory: Path, security: str) -> Iterator[tuple[Sink, int, Path]]:
    certificate, key = write_certificate(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handler = Sink()
    with_auth: dict[str, Any] = {"authenticator": authenticate, "auth_required": True}
    options: dict[str, Any] = {
        "tls": {**with_auth, "auth_require_tls": False, "ssl_context": context},
        "starttls": {**with_auth, "tls_context": context, "require_starttls": True},
        "none": {},
    }[security]
    port = free_port()
    controller = Controller(handler, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield handler, port, certificate
    finally:
        controller.stop()


def relay(port: int, security: str, certificate: Path, password: str = PASSWORD, host: str = "localhost") -> Relay:
    secured = security != "none"
    return Relay(
        host,
        port,
        security,
        "no-reply@bank.example",
        username="people" if secured else "",
        password=password if secured else "",
        ca=str(certificate) if secured else "",
    )


def send(mailer: SmtpMailer) -> None:
    asyncio.run(
        mailer.send("ann@bank.example", "Objet é", "Première ligne\nhttps://localhost/auth/reset?token=" + "A" * 43)
    )


@pytest.mark.parametrize("security", ["tls", "starttls", "none"])
def test_a_mail_arrives_as_it_was_written(tmp_path: Path, security: str) -> None:
    with sink(tmp_path, security) as (got, port, certificate):
        send(SmtpMailer(relay(port, security, certificate)))
        (sender, to, mail) = got.got[0]
    assert (sender, to) == ("no-reply@bank.example", ["ann@bank.example"])
    assert (mail["Subject"], mail["From"]) == ("Objet é", "no-reply@bank.example")
    assert mail["Message-ID"].endswith("@bank.example>")
    assert mail["Date"]
    assert "token=" + "A" * 43 in mail.get_content()


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_relay_whose_certificate_is_not_trusted_gets_nothing(tmp_path: Path, security: str) -> None:
    (tmp_path / "other").mkdir()
    other, _ = write_certificate(tmp_path / "other")
    with sink(tmp_path, security) as (got, port, _):
        with pytest.raises(Unavailable) as refused:
            send(SmtpMailer(relay(port, security, other)))
        assert not got.got
    assert refused.value.code == "mail_unavailable"
    assert "AAAA" not in str(refused.value)


def test_a_name_that_is_not_on_the_certificate_is_refused(tmp_path: Path) -> None:
    with sink(tmp_path, "tls") as (got, port, certificate):
        with pytest.raises(Unavailable):
            send(SmtpMailer(relay(port, "tls", certificate, host="127.0.0.2")))
        assert not got.got


def test_a_relay_without_starttls_gets_no_password_and_no_mail(tmp_path: Path) -> None:
    with sink(tmp_path, "none") as (got, port, certificate):
        with pytest.raises(Unavailable):
            send(SmtpMailer(relay(port, "starttls", certificate)))
        assert not got.got


def test_a_wrong_password_a_refusal_and_a_relay_that_is_gone_are_told_alike(tmp_path: Path) -> None:
    with sink(tmp_path, "tls") as (got, port, certificate):
        with pytest.raises(Unavailable):
            send(SmtpMailer(relay(port, "tls", certificate, password="wrong")))
        got.refusing = True
        with pytest.raises(Unavailable):
            send(SmtpMailer(relay(port, "tls", certificate)))
    with pytest.raises(Unavailable):
        send(SmtpMailer(relay(port, "tls", certificate)))
