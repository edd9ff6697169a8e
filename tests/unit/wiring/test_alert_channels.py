"""`[alerting]`: no secret stands in the file, nothing leaves unencrypted, and what is wrong is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from rempart.kernel.errors import BadInput
from rempart.wiring.plan import Options, Roots, make_plan
from rempart.wiring.ports import Ports
from rempart.wiring.settings import AppSettings, parse

from .test_audit_sinks import APP, HOOK

MAIL = """
[alerting.channel.mail]
host = "smtp.a.example"
from = "rempart@a.example"
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", HOOK)
    monkeypatch.setenv("SLACK", "https://hooks.slack.example/services/T/B/hidden")
    monkeypatch.setenv("PLAIN", "http://hooks.slack.example/services/T/B/hidden")
    monkeypatch.setenv("AM", "the password")


def read(text: str, directory: Path) -> AppSettings:
    return parse(APP + text, directory)


def test_every_type_with_all_its_keys(tmp_path: Path) -> None:
    alerting = read(
        """
[alerting]
gather = 1
again = 60
remind = 600
quiet = 120
[[alerting.channel]]
name = "chat"
type = "slack"
url = "${SLACK}"
least = "low"
[[alerting.channel]]
name = "hook"
type = "webhook"
url = "http://127.0.0.1:9000/x/"
secret = "${HOOK_SECRET}"
[[alerting.channel]]
name = "am"
type = "alertmanager"
url = "https://am.a.example"
username = "rempart"
password = "${AM}"
[[alerting.channel]]
name = "mail"
type = "email"
to = "a@a.example, b@a.example"
"""
        + MAIL,
        tmp_path,
    ).alerting
    assert (alerting.pace.gather, alerting.pace.quiet) == (1.0, 120.0)
    chat, hook, am, mail = alerting.channels
    assert (chat.least, chat.url) == ("low", "https://hooks.slack.example/services/T/B/hidden")
    assert (hook.url, hook.secret) == ("http://127.0.0.1:9000/x", HOOK)
    assert (am.username, am.password) == ("rempart", "the password")
    assert (mail.to, mail.mail.host, mail.mail.port) == (("a@a.example", "b@a.example"), "smtp.a.example", 465)
    assert "hidden" not in repr(alerting.channels)
    assert HOOK not in repr(alerting.channels)


@pytest.mark.parametrize(
    ("channel", "why"),
    [
        ('type = "pigeon"', "no type of channel"),
        ('type = "slack"\nurl = "https://hooks.slack.example/x"', "may not stand in this file"),
        ('type = "slack"\nurl = "${NOWHERE}"', "NOWHERE is not set"),
        ('type = "slack"\nurl = "${PLAIN}"', "without TLS"),
        ('type = "webhook"\nurl = "https://a.example"', "'alerting.channel.secret' is missing"),
        ('type = "webhook"\nurl = "https://a.example"\nsecret = "${AM}"', "whsec_"),
        ('type = "webhook"\nurl = "https://169.254.169.254/x"\nsecret = "${HOOK_SECRET}"', "link-local"),
        ('type = "webhook"\nurl = "https://u:p@a.example"\nsecret = "${HOOK_SECRET}"', "credentials may not"),
        ('type = "alertmanager"\nurl = "https://a.example"\nca = "none.pem"', "can't be read"),
        ('type = "alertmanager"\nurl = "https://a.example"\nleast = "loud"', "is no severity"),
        ('type = "alertmanager"\nurl = "https://a.example"\nto = "x"', "unknown key"),
        ('type = "email"\nto = "nobody"' + MAIL, "no mail addresses"),
        ('type = "email"\nto = "a@a.example"', "'alerting.channel.mail' is missing"),
    ],
)
def test_what_is_wrong_is_refused_and_no_secret_is_repeated(channel: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read(f'[[alerting.channel]]\nname = "c"\n{channel}', tmp_path)
    assert why in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "the password" not in str(caught.value)


def test_two_channels_of_one_name_are_refused(tmp_path: Path) -> None:
    one = '[[alerting.channel]]\nname = "c"\ntype = "alertmanager"\nurl = "https://a.example"\n'
    with pytest.raises(BadInput, match="there already"):
        read(one + one, tmp_path)


@pytest.mark.parametrize("wanted", [False, True])
def test_the_notifier_runs_only_where_somebody_is_told(wanted: bool, tmp_path: Path) -> None:
    text = '[[alerting.channel]]\nname = "c"\ntype = "alertmanager"\nurl = "https://a.example"\n' if wanted else ""
    options = Options(state=tmp_path / "s", python="python")
    plan = make_plan(read(text, tmp_path), options, Ports({}, set(), lambda *_: True), Roots(spiffe="", web=""))
    assert ("notifier" in {process.name for process in plan.processes}) is wanted
