from __future__ import annotations

import contextlib
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.kernel.errors import BadInput
from rempart.wiring.settings import load, parse

GOOD = """
[app]
name = "bank"
trust_domain = "bank.example"

[[service]]
name = "wallet"
command = ["python", "-m", "wallet"]
socket = "wallet.sock"
routes = ["/wallet"]
calls = ["people"]
"""


def refused(text: str, directory: Path = Path("/app")) -> list[str]:
    with pytest.raises(BadInput) as caught:
        parse(text, directory)
    assert caught.value.exit_code == 2
    return caught.value.reason.splitlines()


def test_defaults_are_those_of_the_interface():
    app = parse(GOOD, Path("/app"))
    assert (app.listen_host, app.listen_port) == ("127.0.0.1", 8443)
    assert (app.svid_ttl, app.access_ttl, app.refresh_ttl) == (3600, 3600, 604800)
    assert (app.rates.address_per_second, app.rates.address_burst, app.rates.person_per_minute) == (100, 500, 3000)
    assert app.services[0].spiffe_id == "spiffe://bank.example/wallet"
    assert app.policy_dir is None


def test_rates_are_read_and_must_fit_together():
    app = parse(GOOD + "\n[rates]\naddress_per_second = 7\naddress_burst = 9\nperson_per_minute = 60\n", Path("/app"))
    assert (app.rates.address_per_second, app.rates.address_burst, app.rates.person_per_minute) == (7, 9, 60)
    assert "raise address_burst" in refused(GOOD + "\n[rates]\naddress_burst = 5\n")[1]
    assert "choose from 1" in refused(GOOD + "\n[rates]\nperson_per_minute = 0\n")[1]


@pytest.mark.parametrize(
    "wrong",
    [
        'url = "http://login.example"',
        'url = "https://login.example/"',
        'url = "https://login.example/auth"',
        'url = "https://login.example:443"',
        'url = "https://login.example:0"',
        'url = "https://login.example:"',
        'url = "https://u@login.example"',
        'url = "https://Login.example"',
        'url = "https://192.0.2.7"',
        'url = "https://"',
        'names = ["*.bank.example"]',
        'names = ["https://bank.example"]',
        'names = ["bank.example:8443"]',
        'names = ["bank.example."]',
        'names = ["bank..example"]',
        'names = ["192.0.2.7"]',
        'names = ["a.example", "a.example"]',
        'names = [""]',
    ],
)
def test_names_of_the_gateway_are_plain_dns_names(wrong):
    assert len(refused(f"{GOOD}\n[gateway]\n{wrong}\n")) > 1


def test_all_errors_are_shown_together_with_their_lines():
    text = GOOD + '\n[gateway]\nlisten = "nowhere"\n\n[tokens]\naccess_ttl = "1h"\naccess_tt1 = 3\n'
    told = refused(text)
    lines = text.splitlines()
    assert told[0].startswith("3 errors")
    for line, start in zip(told[1:], ("listen", "access_ttl", "access_tt1"), strict=True):
        number = int(line.split(":")[1])
        assert lines[number - 1].startswith(start)
    assert "did you mean 'access_ttl'?" in told[3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('socket = "wallet.sock"\nport = 18001', "exactly one of socket and port"),
        ("", "exactly one of socket and port"),
        ("port = 70000", "is not a port"),
        ("port = true", "must be a port number"),
        ('socket = "../up.sock"', "can't be"),
        ('socket = "a.sock"\nspiffe_id = "spiffe://other.example/x"', "not in the trust domain"),
        ('socket = "a.sock"\nspiffe_id = "spiffe://bank.example/rempart/people"', "Rempart's own"),
        ('socket = "a.sock"\nhealth = "healthz"', "can't be"),
        ('socket = "a.sock"\nenv = { LD_PRELOAD = "x" }', "is set by Rempart"),
        ('socket = "a.sock"\nenv = { REMPART_ISSUER = "x" }', "is set by Rempart"),
        ('socket = "a.sock"\nenv = { A = 1 }', "string value"),
    ],
)
def test_a_service_is_checked(change, words):
    assert any(words in line for line in refused(GOOD.replace('socket = "wallet.sock"', change)))


@pytest.mark.parametrize("name", ["people", "observer", "gateway", "identity", "pdp", "supervisor", "x-sidecar"])
def test_rempart_keeps_its_own_names(name):
    assert any("reserved" in line for line in refused(GOOD.replace('name = "wallet"', f'name = "{name}"')))


@pytest.mark.parametrize("route", ["/login", "/auth/x", "/logs", "/opa/policies", "/metrics"])
def test_reserved_routes_are_refused(route):
    assert any("reserved" in line for line in refused(GOOD.replace('"/wallet"', f'"{route}"')))


@pytest.mark.parametrize("route", ["wallet", "/", "/a//b", "/a b", "/a/../b", "/%2e", "/a?b"])
def test_odd_routes_are_refused(route):
    assert any("not a route" in line for line in refused(GOOD.replace('"/wallet"', f'"{route}"')))


OTHER = """
[[service]]
name = "other"
command = ["x"]
socket = "x.sock"
routes = ["{route}"]
calls = ["{callee}"]
"""


def test_what_contradicts_between_services_is_refused():
    told = refused(
        GOOD
        + OTHER.format(route="/wallet/deep", callee="nobody")
        + GOOD.partition("[[service]]")[2].join(["[[service]]", ""])
    )
    told_text = "\n".join(told)
    assert "overlaps '/wallet'" in told_text
    assert "calls 'nobody', which is no service" in told_text
    assert "name 'wallet' is used twice" in told_text


def test_names_that_only_begin_alike_do_not_overlap():
    assert parse(GOOD + OTHER.format(route="/wallets", callee="wallet"), Path("/app")).services[1].routes == (
        "/wallets",
    )


def test_broken_toml_names_file_and_line(tmp_path):
    (tmp_path / "rempart.toml").write_text("[app\n")
    with pytest.raises(BadInput, match=r"rempart\.toml.*line 1"):
        load(tmp_path)


def test_no_file_no_utf8_no_policy(tmp_path):
    with pytest.raises(BadInput, match="there is no"):
        load(tmp_path)
    (tmp_path / "rempart.toml").write_bytes(b"[app]\nname = '\xff'\n")
    with pytest.raises(BadInput, match=r"rempart\.toml:2: not UTF-8"):
        load(tmp_path)
    (tmp_path / "rempart.toml").write_text(GOOD + '[policy]\npath = "policy"\n')
    with pytest.raises(BadInput, match="there is no directory"):
        load(tmp_path)


_VALUES = st.recursive(
    st.sampled_from(["1", "true", '""', '"x"', '"/a"', '"a.sock"', "1.5", "1979-05-27", '"\\u0000"', "-3"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
    max_leaves=4,
)
_NAMES = """name trust_domain demo listen command socket port routes calls health env selectors path entrypoint
svid_ttl access_ttl spiffe_id zzz"""
_KEYS = st.sampled_from(_NAMES.split())
_HEADS = st.sampled_from(
    [
        "[app]",
        "[gateway]",
        "[[service]]",
        "[[client]]",
        "[policy]",
        "[identity]",
        "[tokens]",
        "[service]",
        "[zzz]",
        "[[app]]",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_HEADS, st.dictionaries(_KEYS, _VALUES, max_size=4)), max_size=5))
def test_no_settings_cause_anything_but_a_refusal(tables):
    text = "".join(head + "\n" + "".join(f"{k} = {v}\n" for k, v in table.items()) for head, table in tables)
    with contextlib.suppress(BadInput):
        parse(text, Path("/app"))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=string.printable, max_size=80))
def test_no_text_causes_anything_but_a_refusal(text):
    with pytest.raises(BadInput):
        parse(text, Path("/app"))
