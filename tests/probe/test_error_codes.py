"""Which error a standard names for which mistake, and in whose words a resource asks for a proof."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from tests.probe.kit import ACCESS_TOKEN, CALLBACK, EXCHANGE, SECRET, VERIFIER, Idp, b64, unsigned

JWT = "urn:ietf:params:oauth:token-type:jwt"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
API = ("p-api", SECRET)


def exchanged(idp: Idp, subject: str, **more: str) -> Any:
    form = {"grant_type": EXCHANGE, "subject_token": subject, "subject_token_type": ACCESS_TOKEN, **more}
    return idp.token(form, auth=API)


@pytest.mark.parametrize("kind", ["nonsense", "forged", "id_token", "refresh_token", "a client's own"])
def test_a_subject_token_that_is_none_makes_an_invalid_request(idp: Idp, kind: str) -> None:
    """RFC 8693 section 2.2.2, which leaves no other code for it."""
    if kind == "a client's own":
        subject = idp.token({"grant_type": "client_credentials"}, auth=API).json()["access_token"]
    elif kind in ("id_token", "refresh_token"):
        subject = idp.tokens()[kind]
    else:
        subject = unsigned({"alg": "none", "typ": "at+jwt"}, {"sub": "x"}) if kind == "forged" else "x"
    answer = exchanged(idp, subject)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_what_was_asked_for_is_what_is_said_to_be_issued(idp: Idp) -> None:
    """RFC 8693 section 2.2.1."""
    person = idp.bank.token("user")
    for wanted in (ACCESS_TOKEN, JWT):
        assert exchanged(idp, person, requested_token_type=wanted).json()["issued_token_type"] == wanted
    assert exchanged(idp, person).json()["issued_token_type"] == ACCESS_TOKEN


def test_an_assertion_that_buys_nothing_is_an_invalid_grant(idp: Idp) -> None:
    """RFC 7523 section 3.1; RFC 6749 section 5.2 for one that is missing."""
    assert idp.token({"grant_type": JWT_BEARER}).json()["error"] == "invalid_request"
    for assertion in ("x", "a.b.c", idp.assertion()):
        answer = idp.token({"grant_type": JWT_BEARER, "assertion": assertion})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"redirect_uri": "https://evil.example/cb"}, "invalid_request"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"acr_values": "urn:example:gold"}, "unmet_authentication_requirements"),
        ({"request": "a.b.c"}, "request_not_supported"),
        ({"registration": "{}"}, "registration_not_supported"),
    ],
)
def test_a_pushed_request_is_refused_with_codes_of_the_authorization_endpoint(
    idp: Idp, more: dict[str, str | None], error: str
) -> None:
    """RFC 9126 section 2.3, OpenID Connect Core section 3.1.2.6."""
    endpoint = idp.endpoint("pushed_authorization_request_endpoint")
    answer = idp.ask("POST", endpoint, data=idp.parameters(**more), auth=("p-web", SECRET))
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_a_pushed_request_that_is_too_large_is_a_413(idp: Idp) -> None:
    """RFC 9126 section 2.3."""
    endpoint = idp.endpoint("pushed_authorization_request_endpoint")
    answer = idp.ask("POST", endpoint, data=idp.parameters(state="x" * 50_000), auth=("p-web", SECRET))
    assert answer.status_code == 413


def test_a_device_hears_that_nobody_can_meet_its_demand(idp: Idp) -> None:
    form = {"client_id": "p-tv", "scope": "openid", "acr_values": "urn:example:gold"}
    answer = idp.ask("POST", idp.endpoint("device_authorization_endpoint"), data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "unmet_authentication_requirements")


def test_who_speaks_dpop_is_answered_in_dpop(idp: Idp) -> None:
    """RFC 9449 section 7.1: the challenge's scheme, its error, and algorithms that the metadata name as well."""
    form = {"grant_type": "authorization_code", "code": idp.code("p-spa"), "redirect_uri": CALLBACK}
    bound = idp.with_proof({**form, "code_verifier": VERIFIER, "client_id": "p-spa"}).json()["access_token"]
    where = idp.endpoint("userinfo_endpoint")
    ath = b64(hashlib.sha256(bound.encode()).digest())
    assert idp.userinfo(bound, "DPoP", dpop=idp.proof("GET", where, ath=ath)).status_code == 200
    refused = idp.userinfo(bound, "DPoP", dpop=idp.proof("GET", where, key=idp.other, ath=ath))
    said = refused.headers["www-authenticate"]
    assert refused.status_code == 401
    assert said.startswith('DPoP error="invalid_token"')
    algorithms = said.partition('algs="')[2].partition('"')[0].split()
    assert algorithms
    assert set(algorithms) <= set(idp.metadata["dpop_signing_alg_values_supported"])


def test_a_token_sent_in_two_ways_is_refused(idp: Idp) -> None:
    """RFC 6750 section 2."""
    token = idp.tokens()["access_token"]
    where, headers = idp.endpoint("userinfo_endpoint"), {"authorization": f"Bearer {token}"}
    answer = idp.ask("POST", where, data={"access_token": token}, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert 'error="invalid_request"' in answer.headers["www-authenticate"]
    assert idp.ask("POST", where, data={"more": "x"}, headers=headers).status_code == 200
    assert idp.ask("POST", where, headers=headers).status_code == 200


@pytest.mark.parametrize("port", ["0", "00000", "65536", "99999"])
def test_a_loopback_port_is_one_that_can_be(idp: Idp, port: str) -> None:
    answer = idp.ask("GET", idp.request_url("p-native", redirect_uri=f"http://127.0.0.1:{port}/cb", prompt="none"))
    assert answer.status_code == 400
    assert "location" not in answer.headers


def test_a_token_written_in_another_way_opens_no_service(idp: Idp) -> None:
    """RFC 7515 section 7.1, RFC 4648 section 3.5. Envoy's own reader skips empty parts and bits that are left over."""
    token = idp.bank.token("user")
    path = f"/wallet?user_id={idp.person['user_id']}"
    header, _, rest = token.partition(".")
    assert len(rest.partition(".")[2]) % 4 == 2  # so four bits of the last character are nobody's
    loose = chr(ord(token[-1]) + 1)
    assert idp.ask("GET", path, headers={"authorization": f"Bearer {token}"}).status_code == 200
    for odd in (
        f"{token}.",
        f"{header}..{rest}",
        f".{token}",
        f"{token}..",
        f"{token}.eA",
        f"{token[:-1]}{loose}",
    ):
        answer = idp.ask("GET", path, headers={"authorization": f"Bearer {odd}"})
        assert answer.status_code in (400, 401), odd
