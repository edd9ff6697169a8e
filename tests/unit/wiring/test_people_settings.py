"""`[people.roles]` and `[people.mail]`: what may be said, and that no password stands in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.wiring.test_settings import GOOD, refused

from rempart.wiring.settings import parse

ROLES = """
[people.roles.teller]
permissions = ["till:open"]
[people.roles.desk]
manages = ["user", "teller"]
[people.roles.finance]
permissions = ["transactions:read"]
"""


def test_own_roles_are_read() -> None:
    app = parse(GOOD + ROLES, Path("/app"))
    assert app.roles["desk"].manages == ("user", "teller")
    assert app.roles["teller"].permissions == ("till:open",)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[people.roles.desk]\nmanages = ["nobody"]', "which is no role"),
        ('[people.roles.desk]\nmanages = ["admin"]', "which manages others itself"),
        ('[people.roles.Desk]\npermissions = ["a"]', "can't be a role"),
        ('[people.roles.desk]\npermissions = ["a b"]', "a permission is a word"),
        ('[people.roles.desk]\nallows = ["a"]', "unknown key"),
        ('[people.roles.desk]\npermissions = ["a", "a"]', "same element twice"),
        ("[people]\nroles = 7", "must be a table"),
    ],
)
def test_roles_that_cannot_be(text: str, why: str) -> None:
    assert any(why in line for line in refused(GOOD + text + "\n")), refused(GOOD + text + "\n")


MAIL = """
[people.mail]
host = "smtp.example.org"
from = "no-reply@bank.example"
username = "rempart"
password = "${SMTP_PASSWORD}"
"""


def test_the_relays_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "a relay's secret")
    mail = parse(GOOD + MAIL, Path("/app")).mail
    assert (mail.host, mail.port, mail.security, mail.password) == ("smtp.example.org", 465, "tls", "a relay's secret")
    assert "secret" not in repr(mail)
    monkeypatch.delenv("SMTP_PASSWORD")
    assert any("SMTP_PASSWORD is not set" in line for line in refused(GOOD + MAIL))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"${SMTP_PASSWORD}": "hunter2"}, "may not stand in this file"),
        ({"${SMTP_PASSWORD}": "${SMTP}${PASSWORD}"}, "may not stand in this file"),
        ({'host = "smtp.example.org"': 'host = "a b"'}, "can't be"),
        ({'host = "smtp.example.org"\n': ""}, "names no host"),
        ({'from = "no-reply@bank.example"\n': ""}, "'people.mail.from' is missing"),
        ({"no-reply@bank.example": "nobody"}, "can't be"),
        ({"[people.mail]": '[people.mail]\nsecurity = "plain"'}, "is none of them"),
        ({"[people.mail]": '[people.mail]\nsecurity = "none"'}, "only a relay on this host"),
        ({"[people.mail]": "[people.mail]\nport = 0"}, "is not a port"),
    ],
)
def test_a_relay_that_cannot_be(changes: dict[str, str], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "x")
    text = GOOD + MAIL
    for old, new in changes.items():
        text = text.replace(old, new)
    told = refused(text)
    assert any(why in line for line in told), told
    assert "hunter2" not in str(told)


def test_a_relay_on_this_host_needs_no_encryption_and_gets_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "x")
    local = MAIL.replace("smtp.example.org", "127.0.0.1").replace("[people.mail]", '[people.mail]\nsecurity = "none"')
    assert any("not sent without encryption" in line for line in refused(GOOD + local))
    without: Any = "\n".join(line for line in local.splitlines() if "password" not in line)
    assert parse(GOOD + without, Path("/app")).mail.port == 25


def test_without_a_relay_mails_are_files() -> None:
    assert parse(GOOD, Path("/app")).mail.host == ""
