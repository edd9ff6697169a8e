"""`[tracing]`: spans go to a collector on this host, or over TLS to one whose certificate is checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sink_certificates import make_pki

from rempart.kernel.errors import BadInput
from rempart.mesh.model import Tracing
from rempart.wiring.settings import parse

APP = '[app]\nname = "a"\ntrust_domain = "a.example"\n'


def test_off_unless_a_collector_is_named(tmp_path: Path) -> None:
    assert parse(APP, tmp_path).tracing is None


def test_a_collector_here_and_one_elsewhere(tmp_path: Path) -> None:
    make_pki(tmp_path)
    here = parse(APP + '[tracing]\nendpoint = "http://127.0.0.1:4318"\npercent = 5\n', tmp_path).tracing
    assert here == Tracing(host="127.0.0.1", port=4318, percent=5)
    there = parse(APP + '[tracing]\nendpoint = "https://otel.example/in"\nca = "ca.pem"\n', tmp_path).tracing
    assert there is not None
    assert there.url == "https://otel.example:4318/in/v1/traces"


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ("percent = 5", "'tracing.endpoint' is missing"),
        ('endpoint = "http://otel.example:4318"', "only a collector on this host"),
        ('endpoint = "https://otel.example:4318"', "https needs a ca"),
        ('endpoint = "https://u:p@otel.example"\nca = "ca.pem"', "only a host, a port and a path"),
        ('endpoint = "http://127.0.0.1:4318"\npercent = 101', "from 0 to 100"),
        ('endpoint = "http://127.0.0.1:99999"', "no address"),
        ('endpoint = "https://otel.example"\nca = "gone.pem"', "holds no certificates"),
    ],
)
def test_what_is_wrong_is_refused(lines: str, what: str, tmp_path: Path) -> None:
    make_pki(tmp_path)
    with pytest.raises(BadInput, match=what):
        parse(f"{APP}[tracing]\n{lines}\n", tmp_path)
