from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.mesh.settings import PEOPLE, TOKENS, WALLET, gateway, sidecar

from rempart.kernel.errors import BadInput
from rempart.mesh.model import Address, Control, Egress, Ingress, Limits, Route, Tokens, Upstream, mesh_controls


@pytest.mark.parametrize(
    ("text", "host", "port", "path"),
    [
        ("127.0.0.1:8443", "127.0.0.1", 8443, ""),
        ("localhost:8443", "127.0.0.1", 8443, ""),
        ("[::1]:8443", "::1", 8443, ""),
        ("unix:/run/app.sock", "", 0, "/run/app.sock"),
    ],
)
def test_addresses_are_read(text: str, host: str, port: int, path: str) -> None:
    address = Address.parse(text)
    assert (address.host, address.port, address.path) == (host, port, path)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", "8443", ":8443", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:٣", "example.org:1",
     "unix:", "unix:relative.sock", "unix:/" + "a" * 107, "unix:/a\0b"],
)  # fmt: skip
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as error:
        Address.parse(text)
    assert error.value.code == "bad_mesh_settings"
    assert error.value.remedy


@given(st.text())
def test_parsing_an_address_raises_nothing_but_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert Address.parse(str(Address.parse(text))) == Address.parse(text)


@pytest.mark.parametrize("prefix", ["", "wallet", "/wallet/", "//", "/a//b", "/a/../b", "/.", "/a%2f", "/a;b", "/a b"])
def test_a_route_is_a_plain_path(prefix: str) -> None:
    with pytest.raises(BadInput):
        Route(prefix, "wallet")


def test_limits_are_positive() -> None:
    for field in dataclasses.fields(Limits):
        with pytest.raises(BadInput):
            Limits(**{field.name: 0})
    with pytest.raises(BadInput):
        Limits(ip_requests_per_s=10, ip_burst=9)


def test_settings_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(BadInput, match="no upstream"):
        gateway(routes=(Route("/x", "nobody"),))
    with pytest.raises(BadInput, match="one prefix"):
        gateway(routes=(Route("/wallet", "wallet"), Route("/wallet", "users")))
    with pytest.raises(BadInput, match="one name"):
        gateway(upstreams=(WALLET, WALLET))
    with pytest.raises(BadInput, match="two ways"):
        sidecar(egress=(Egress(Address.parse("unix:/e.sock"), WALLET), Egress(Address.parse("unix:/f.sock"), WALLET)))
    with pytest.raises(BadInput, match="no caller"):
        Ingress(Address.parse("127.0.0.1:1"), Address.parse("127.0.0.1:2"), (), "/pdp.sock", TOKENS)
    with pytest.raises(BadInput, match="no SPIFFE ID"):
        Egress(Address.parse("unix:/e.sock"), Upstream("users", Address.parse("127.0.0.1:1")))
    with pytest.raises(BadInput, match="issuer"):
        Tokens("", "bank.example", PEOPLE)
    with pytest.raises(BadInput, match="SPIFFE"):
        sidecar(spiffe_id="https://bank.example")
    with pytest.raises(BadInput, match="longer"):
        sidecar(run_dir="/" + "a" * 100)


def test_controls_of_other_rooms_are_left_to_them() -> None:
    assert mesh_controls(["normalize-path", "login-throttle"]) == {Control.NORMALIZE_PATH}
