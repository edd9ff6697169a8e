"""`[[audit.sink]]`: no secret stands in the file, nothing leaves unencrypted, and what is wrong is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sink_certificates import make_pki

from rempart.kernel.errors import BadInput
from rempart.wiring.plan import Options, Roots, make_plan
from rempart.wiring.ports import Ports
from rempart.wiring.settings import AppSettings, parse

HOOK = "whsec_" + "QUJD" * 10
APP = """[app]
name = "a"
trust_domain = "a.example"
[[service]]
name = "web"
command = ["web"]
socket = "web.sock"
"""


def read(text: str, directory: Path) -> AppSettings:
    return parse(APP + text, directory)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_pki(tmp_path, "us", "other")
    monkeypatch.setenv("SIEM_PASSWORD", "the password")
    monkeypatch.setenv("HOOK_SECRET", HOOK)
    return tmp_path


def test_every_type_with_all_its_keys(directory: Path) -> None:
    sinks = read(
        """
[[audit.sink]]
name = "siem"
type = "elasticsearch"
url = "https://siem.example:9200/"
index = "rp"
username = "shipper"
password = "${SIEM_PASSWORD}"
ca = "ca.pem"
certificate = "us.pem"
key = "us.key"
[[audit.sink]]
name = "log"
type = "syslog"
address = "[::1]"
ca = "ca.pem"
certificate = "us.pem"
key = "us.key"
strict = true
[[audit.sink]]
name = "file"
type = "jsonl"
personal = "references"
[[audit.sink]]
name = "hook"
type = "webhook"
url = "http://127.0.0.1:9/x"
secret = "${HOOK_SECRET}"
""",
        directory,
    ).audit.sinks
    siem, log, file, hook = sinks
    assert (siem.url, siem.index, siem.password) == ("https://siem.example:9200", "rp", "the password")
    assert siem.key.startswith("-----BEGIN PRIVATE KEY-----")
    assert (log.host, log.port, log.strict) == ("::1", 6514, True)
    assert file.path == "file.jsonl"
    assert [sink.personal for sink in sinks] == ["clear", "clear", "references", "clear"]
    assert hook.secret == HOOK
    assert "password" not in repr(siem)
    assert HOOK not in repr(hook)


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ('type = "splunk"', "no type of sink"),
        ('type = "elasticsearch"', "'audit.sink.url' is missing"),
        ('type = "elasticsearch"\nurl = "http://siem.example"', "only a receiver on this host"),
        ('type = "elasticsearch"\nurl = "https://u:p@siem.example"', "credentials may not stand in a URL"),
        ('type = "webhook"\nurl = "https://169.254.169.254/latest"\nsecret = "${HOOK_SECRET}"', "link-local"),
        ('type = "webhook"\nurl = "https://[fe80::1]/"\nsecret = "${HOOK_SECRET}"', "link-local"),
        ('type = "webhook"\nurl = "file:///etc/passwd"\nsecret = "${HOOK_SECRET}"', "can't be 'file"),
        ('type = "webhook"\nurl = "https://h/?a=b"\nsecret = "${HOOK_SECRET}"', "query or fragment"),
        (
            'type = "webhook"\nurl = "https://h/"\nsecret = "whsec_QUJDQUJDQUJDQUJDQUJDQUJD"',
            "may not stand in this",
        ),
        ('type = "webhook"\nurl = "https://h/"\nsecret = "${SIEM_PASSWORD}"', "a webhook's secret is"),
        ('type = "webhook"\nurl = "https://h/"\nsecret = "${NOT_SET_AT_ALL}"', "is not set"),
        (
            'type = "elasticsearch"\nurl = "https://h"\npassword = "hunter2"\nusername = "u"',
            "may not stand in this file",
        ),
        ('type = "elasticsearch"\nurl = "https://h"\nusername = "u"', "'audit.sink.password' is missing"),
        ('type = "elasticsearch"\nurl = "https://h"\nindex = "../x"', "can't be"),
        ('type = "elasticsearch"\nurl = "https://h"\nca = "gone.pem"', "can't be read"),
        ('type = "elasticsearch"\nurl = "https://h"\nca = "us.key"', "holds no certificates"),
        ('type = "syslog"\naddress = "h:6514"', "'audit.sink.certificate' is missing"),
        ('type = "syslog"\naddress = "h:0"\ncertificate = "us.pem"\nkey = "us.key"', "is no port"),
        ('type = "syslog"\naddress = "h"\ncertificate = "us.pem"\nkey = "other.key"', "don't belong together"),
        ('type = "jsonl"\nurl = "https://h"', "unknown key"),
        ('type = "jsonl"\npersonal = "some"', "is given in no way 'some'"),
    ],
)
def test_what_is_wrong_is_refused_and_no_secret_is_repeated(lines: str, what: str, directory: Path) -> None:
    with pytest.raises(BadInput) as refused:
        read(f'[[audit.sink]]\nname = "s"\n{lines}\n', directory)
    assert what in refused.value.reason
    assert "hunter2" not in refused.value.reason


def test_a_name_has_one_cursor(directory: Path) -> None:
    with pytest.raises(BadInput, match="is there already"):
        read('[[audit.sink]]\nname = "s"\ntype = "jsonl"\n' * 2, directory)


def test_the_process_is_there_only_with_sinks_and_sees_the_record_and_nothing_else(directory: Path) -> None:
    def planned(text: str) -> list[str]:
        plan = make_plan(
            read(text, directory),
            Options(state=directory / "s", python="python"),
            Ports({}, set(), lambda *_: True),
            Roots(spiffe="", web=""),
        )
        shipper = [process for process in plan.processes if process.name == "shipper"]
        feeds = {s.name for process in plan.processes for s in process.sockets if s.name.startswith("feed:")}
        assert ("feed:shipper" in feeds) is bool(shipper)
        return [view.path for process in shipper for view in process.sees]

    assert planned("") == []
    sees = planned('[[audit.sink]]\nname = "s"\ntype = "jsonl"\n')
    assert sees == ["data/shipper", "journals/shipper", "run/feed/shipper.sock"]
