"""Redirect URIs match whole, or not at all (RFC 9700 sections 2.1 and 4.1; RFC 8252 section 7.3)."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.people.authorize.redirects import host_of, matches, source_of, with_parameters

REGISTERED = ("https://app.example/cb", "https://app.example/cb?tenant=1", "com.example.app:/cb")
LOOPBACK = ("http://127.0.0.1/cb", "http://[::1]:8000/cb?x=1", "http://localhost/cb")


@pytest.mark.parametrize("uri", REGISTERED)
def test_the_registered_one_matches(uri: str) -> None:
    assert matches(uri, REGISTERED, native=False)


@given(uri=st.sampled_from(REGISTERED), data=st.data())
@settings(max_examples=200)
def test_one_changed_character_doesnt(uri: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(uri)))
    kind = data.draw(st.sampled_from(("insert", "replace", "delete")))
    letter = data.draw(st.characters(codec="utf-8"))
    end = at if kind == "insert" else at + 1
    changed = uri[:at] + ("" if kind == "delete" else letter) + uri[end:]
    assert matches(changed, REGISTERED, native=True) is (changed in REGISTERED)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/cb", "http://127.0.0.1:65535/cb", "http://[::1]/cb?x=1"])
def test_a_native_client_may_listen_on_any_port_of_its_own_host(uri: str) -> None:
    assert matches(uri, LOOPBACK, native=True)
    assert not matches(uri, LOOPBACK, native=False)


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:1/other", "http://127.0.0.2:1/cb", "https://127.0.0.1:1/cb", "http://127.0.0.1:99999/cb",
        "http://127.0.0.1:1@evil.example/cb", "http://a@127.0.0.1:1/cb", "http://127.0.0.1.evil.example/cb",
        "http://localhost:1/cb", "http://127.0.0.1:/cb", "http://127.0.0.1:1/cb#f", "http://127.0.0.1:1/cb?a=1",
        "http://127.0.0.1:١/cb", "http://127.0.0.1:1/cb\n", "http://[::1]:1/cb",
    ],
)  # fmt: skip
def test_but_nothing_else_may_differ(uri: str) -> None:
    assert not matches(uri, LOOPBACK, native=True)


@given(state=st.text(max_size=40), uri=st.sampled_from((*REGISTERED, "https://app.example/cb?")))
@settings(max_examples=100)
def test_parameters_arrive_as_they_were_and_the_address_stays(state: str, uri: str) -> None:
    state = state.encode("utf-8", "ignore").decode()
    full = with_parameters(uri, {"code": "c", "state": state})
    assert full.startswith(uri)
    query = dict(parse_qsl(urlsplit(full).query, keep_blank_values=True))
    assert (query["code"], query["state"]) == ("c", state)
    assert urlsplit(full)[:3] == urlsplit(uri)[:3]


def test_where_an_answer_goes_is_told_as_a_host_and_as_a_csp_source() -> None:
    assert (host_of(REGISTERED[0]), source_of(REGISTERED[0])) == ("app.example", "https://app.example")
    assert (host_of(REGISTERED[2]), source_of(REGISTERED[2])) == ("com.example.app", "com.example.app:")
    assert source_of("http://127.0.0.1:4711/cb") == "http://127.0.0.1:4711"
