"""Codes: bound to client, redirect and verifier, used once, worth nothing to a thief (RFC 9700 section 4.5)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from tests.people_browser import Browser, sign_in
from tests.probe.kit import CALLBACK, SECRET, SIGNED_OUT, VERIFIER, Idp, decoded, pkce

Spoil = Callable[[Idp, str], httpx.Response]
SPOILED: dict[str, Spoil] = {
    "another-verifier": lambda i, c: i.redeem(c, code_verifier=pkce()[0]),
    "no-verifier": lambda i, c: i.redeem(c, code_verifier=None),
    "empty-verifier": lambda i, c: i.redeem(c, code_verifier=""),
    "challenge-as-verifier": lambda i, c: i.redeem(c, code_verifier=VERIFIER[::-1]),
    "verifier-short": lambda i, c: i.redeem(c, code_verifier="short"),
    "verifier-long": lambda i, c: i.redeem(c, code_verifier="a" * 200),
    "verifier-odd": lambda i, c: i.redeem(c, code_verifier="é" * 50),
    "another-client": lambda i, c: i.redeem(c, "p-two"),
    "a-public-client": lambda i, c: i.redeem(c, "p-spa"),
    "another-redirect": lambda i, c: i.redeem(c, redirect_uri="https://evil.example/callback"),
    "redirect-with-more": lambda i, c: i.redeem(c, redirect_uri=CALLBACK + "/"),
    "no-redirect": lambda i, c: i.redeem(c, redirect_uri=None),
    "wrong-secret": lambda i, c: i.redeem(c, auth=("p-web", "wrong")),
    "no-authentication": lambda i, c: i.token(
        {
            "grant_type": "authorization_code",
            "code": c,
            "client_id": "p-web",
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        }
    ),
    "cut": lambda i, c: i.redeem(c[:-1]),
    "longer": lambda i, c: i.redeem(c + "A"),
    "changed": lambda i, c: i.redeem(c[:-1] + ("A" if c[-1] != "A" else "B")),
    "empty": lambda i, c: i.redeem(""),
    "huge": lambda i, c: i.redeem("A" * 9000),
    "nul": lambda i, c: i.redeem(c + "\x00"),
    "as-refresh-token": lambda i, c: i.refresh(c),
    "as-device-code": lambda i, c: i.token(
        {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": c, "client_id": "p-tv"}
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_code_is_refused(idp: Idp, name: str) -> None:
    answer = SPOILED[name](idp, idp.code())
    assert answer.status_code in (400, 401), answer.text
    assert answer.json()["error"] in ("invalid_grant", "invalid_client", "invalid_request", "unauthorized_client")
    assert "access_token" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_a_code_is_good_once_and_a_second_use_ends_what_the_first_gave(idp: Idp) -> None:
    code = idp.code(scope="openid offline_access")
    first = idp.redeem(code)
    assert first.status_code == 200
    second = idp.redeem(code)
    assert (second.status_code, second.json()["error"]) == (400, "invalid_grant")
    assert idp.refresh(first.json()["refresh_token"]).json()["error"] == "invalid_grant"


def test_of_many_at_once_one_gets_the_tokens_at_most(idp: Idp) -> None:
    code = idp.code()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: idp.redeem(code), range(8)))
    assert {answer.status_code for answer in answers} <= {200, 400}
    assert sum(answer.status_code == 200 for answer in answers) <= 1


def test_a_wrong_verifier_spends_the_code(idp: Idp) -> None:
    """Or at least gives no second chance to whoever guesses on."""
    code = idp.code()
    tries = [idp.redeem(code, code_verifier=pkce()[0]).status_code for _ in range(5)]
    assert set(tries) == {400}


def test_another_clients_try_takes_nothing_from_the_owner_but_its_own(idp: Idp) -> None:
    code = idp.code()
    assert idp.redeem(code, "p-two").status_code == 400
    assert idp.redeem(code).status_code in (200, 400)


def test_the_tokens_are_what_the_standards_say(idp: Idp) -> None:
    tokens = idp.tokens()
    header, claims = decoded(tokens["access_token"])
    assert header["typ"] == "at+jwt"
    needed = {"iss", "exp", "aud", "sub", "client_id", "iat", "jti", "auth_time", "scope"}
    assert needed <= set(claims)  # RFC 9068 section 2.2
    assert claims["client_id"] == "p-web"
    assert "role" not in claims or claims["role"] in ("", None)
    _, identity = decoded(tokens["id_token"])
    assert (identity["aud"], identity["iss"]) in (("p-web", idp.issuer), (["p-web"], idp.issuer))
    assert identity["nonce"]
    assert tokens["token_type"] == "Bearer"
    assert set(tokens["scope"].split()) == {"openid", "email", "offline_access"}


def test_without_offline_access_refreshing_ends_with_the_session(idp: Idp) -> None:
    """OpenID Connect Core section 11."""
    with idp.http() as http:
        browser = Browser(http)
        at = sign_in(browser, idp.request_url(scope="openid"), idp.person["email"], idp.person["password"])
        tokens = idp.redeem(parse_qs(urlsplit(at).query)["code"][0]).json()
        out = {"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": SIGNED_OUT}
        assert browser.open(f"{idp.endpoint('end_session_endpoint')}?{urlencode(out)}") == SIGNED_OUT
        assert "refresh_token" not in tokens or idp.refresh(tokens["refresh_token"]).status_code == 400


def test_without_openid_there_is_no_id_token(idp: Idp) -> None:
    assert "id_token" not in idp.redeem(idp.code(scope="email")).json()


def test_credentials_twice_are_refused(idp: Idp) -> None:
    """RFC 6749 section 2.3: one method only."""
    form = {
        "grant_type": "authorization_code",
        "code": idp.code(),
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        "client_id": "p-web",
        "client_secret": SECRET,
    }
    assert idp.token(form, auth=("p-web", SECRET)).status_code in (400, 401)
