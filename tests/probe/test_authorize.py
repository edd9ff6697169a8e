"""Authorization requests: exact redirects, errors in their place (RFC 6749 section 4.1.2.1, RFC 9700 2.1 and 4.1)."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from tests.probe.kit import CALLBACK, Idp

BAD_REDIRECTS = {
    "another-site": "https://evil.example/callback",
    "sub-path": CALLBACK + "/more",
    "trailing-slash": CALLBACK + "/",
    "query-added": CALLBACK + "?x=1",
    "empty-query": CALLBACK + "?",
    "fragment": CALLBACK + "#f",
    "empty-fragment": CALLBACK + "#",
    "upper-case-path": "https://client.example/Callback",
    "upper-case-host": "https://CLIENT.example/callback",
    "upper-case-scheme": "HTTPS://client.example/callback",
    "http": "http://client.example/callback",
    "default-port": "https://client.example:443/callback",
    "other-port": "https://client.example:8443/callback",
    "userinfo": "https://client.example@evil.example/callback",
    "userinfo-first": "https://evil@client.example/callback",
    "subdomain": "https://evil.client.example/callback",
    "suffix-domain": "https://client.example.evil.example/callback",
    "final-dot": "https://client.example./callback",
    "dot-segments": "https://client.example/x/../callback",
    "encoded-letter": "https://client.example/%63allback",
    "encoded-slash": "https://client.example%2Fcallback",
    "backslash": "https://evil.example\\@client.example/callback",
    "double-slash": "https://client.example//callback",
    "protocol-relative": "//client.example/callback",
    "relative": "/callback",
    "javascript": "javascript:alert(1)",
    "data": "data:text/html,<script>alert(1)</script>",
    "newline": CALLBACK + "\r\nSet-Cookie: a=b",
    "nul": CALLBACK + "\x00",
    "blank-before": " " + CALLBACK,
    "blank-after": CALLBACK + " ",
    "unicode-dots": "https://client。example/callback",
    "wildcard": "https://*.example/callback",
    "two-of-them": CALLBACK + "," + CALLBACK,
    "long": CALLBACK + "/" + "a" * 4000,
    "empty": "",
    "post-logout": "https://client.example/bye",
}

RETURNED = {
    "token": ({"response_type": "token"}, "unsupported_response_type"),
    "id_token": ({"response_type": "id_token"}, "unsupported_response_type"),
    "code token": ({"response_type": "code token"}, "unsupported_response_type"),
    "code id_token": ({"response_type": "code id_token"}, "unsupported_response_type"),
    "nonsense-type": ({"response_type": "bananas"}, "unsupported_response_type"),
    "no-type": ({"response_type": None}, "invalid_request"),
    "no-challenge": ({"code_challenge": None}, "invalid_request"),
    "no-challenge-at-all": ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
    "plain": ({"code_challenge_method": "plain"}, "invalid_request"),
    "plain-by-default": ({"code_challenge_method": None}, "invalid_request"),
    "method-unknown": ({"code_challenge_method": "S512"}, "invalid_request"),
    "challenge-short": ({"code_challenge": "short"}, "invalid_request"),
    "challenge-long": ({"code_challenge": "a" * 129}, "invalid_request"),
    "challenge-odd": ({"code_challenge": "!" * 43}, "invalid_request"),
    "scope-unknown": ({"scope": "openid everything"}, "invalid_scope"),
    "scope-session": ({"scope": "openid session"}, "invalid_scope"),
    "scope-odd": ({"scope": 'openid "\\'}, "invalid_scope"),
    "prompt-none-and-login": ({"prompt": "none login"}, "invalid_request"),
    "prompt-unknown": ({"prompt": "bananas"}, "invalid_request"),
    "max-age-negative": ({"max_age": "-1"}, "invalid_request"),
    "max-age-word": ({"max_age": "soon"}, "invalid_request"),
    "request-object": ({"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
    "registration": ({"registration": "{}"}, "registration_not_supported"),
    "mode-unknown": ({"response_mode": "bananas"}, "invalid_request"),
}


def ask(idp: Idp, url: str) -> httpx.Response:
    return idp.ask("GET", url, headers={"accept": "text/html"})


def back(answer: httpx.Response) -> dict[str, str]:
    """The parameters that went to the client."""
    location = answer.headers["location"]
    assert location.startswith(CALLBACK + "?"), location
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


@pytest.mark.parametrize("name", BAD_REDIRECTS)
def test_only_the_exact_redirect_is_followed(idp: Idp, name: str) -> None:
    answer = ask(idp, idp.request_url(redirect_uri=BAD_REDIRECTS[name]))
    assert (answer.status_code, answer.headers.get("location")) == (400, None)
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize("name", RETURNED)
def test_a_bad_request_goes_back_to_the_client_with_its_error(idp: Idp, name: str) -> None:
    parameters, error = RETURNED[name]
    answer = ask(idp, idp.request_url(**{"state": "st&te=1", **parameters}))
    returned = back(answer)
    assert (returned["error"], returned["state"], returned["iss"]) == (error, "st&te=1", idp.issuer)
    assert "code" not in returned


@pytest.mark.parametrize(
    "client", ["nobody", "", "p-web ", "P-WEB", "p-web\x00", "p-web' or '1'='1", "a" * 3000, "<b>"]
)
def test_an_unknown_client_is_told_on_a_page_and_redirected_nowhere(idp: Idp, client: str) -> None:
    answer = ask(idp, idp.request_url(client))
    assert (answer.status_code, answer.headers.get("location")) == (400, None)
    assert "<b>" not in answer.text


def test_a_client_without_the_code_grant_gets_none(idp: Idp) -> None:
    answer = ask(idp, idp.request_url("p-api"))
    assert answer.status_code == 400
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    "name", ["client_id", "redirect_uri", "response_type", "scope", "state", "code_challenge", "nonce"]
)
def test_a_parameter_given_twice_is_refused(idp: Idp, name: str) -> None:
    parameters = [*idp.parameters().items()]
    parameters.append((name, dict(parameters)[name]))
    answer = ask(idp, f"{idp.endpoint('authorization_endpoint')}?{urlencode(parameters)}")
    if "location" in answer.headers:
        assert back(answer)["error"] == "invalid_request"
        assert name not in ("client_id", "redirect_uri")
    else:
        assert answer.status_code == 400


def test_nobody_is_signed_in_without_being_asked(idp: Idp) -> None:
    assert back(ask(idp, idp.request_url(prompt="none")))["error"] == "login_required"


def test_somebody_signed_in_is_not_asked(idp: Idp) -> None:
    answer = idp.authorize(prompt="none")
    assert answer["code"]
    assert answer["iss"] == idp.issuer


@pytest.mark.parametrize(
    "state", ["a b+c%20", "é☃", '"><script>alert(1)</script>', "a" * 400, "&error=x&code=1", "\\u0000"]
)
def test_the_state_comes_back_as_it_was(idp: Idp, state: str) -> None:
    assert idp.authorize(state=state)["state"] == state


def test_a_form_post_answer_escapes_what_it_carries(idp: Idp) -> None:
    browser = idp.browser
    at = browser.open(idp.request_url(response_mode="form_post", state='"><script>alert(1)</script>'))
    assert not isinstance(at, str)
    assert at.status_code == 200
    assert "<script>alert" not in at.text
    form = browser.form_with("code", "state", "iss")
    assert (form.action, form.method) == (CALLBACK, "post")
    assert form.fields["state"] == '"><script>alert(1)</script>'
    assert "frame-ancestors 'none'" in at.headers["content-security-policy"]


@pytest.mark.parametrize("port", ["1", "8080", "65535"])
def test_a_native_clients_loopback_redirect_may_have_any_port(idp: Idp, port: str) -> None:
    """RFC 8252 section 7.3."""
    assert idp.authorize("p-native", redirect_uri=f"http://127.0.0.1:{port}/cb")["code"]


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:1/cb",
        "http://127.0.0.1:1/other",
        "http://127.0.0.2:1/cb",
        "http://127.0.0.1:x/cb",
        "http://127.0.0.1:99999/cb",
        "http://a@127.0.0.1:1/cb",
        "https://127.0.0.1:1/cb",
    ],
)
def test_but_nothing_else_may_differ(idp: Idp, uri: str) -> None:
    answer = ask(idp, idp.request_url("p-native", redirect_uri=uri))
    assert (answer.status_code, answer.headers.get("location")) == (400, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id_token_hint", "garbage"),
        ("ui_locales", "x" * 2000),
        ("ui_locales", "../../etc/passwd"),
        ("claims", "{"),
        ("acr_values", "nonsense"),
        ("login_hint", "<script>alert(1)</script>"),
        ("display", "hologram"),
        ("max_age", "99999999999999999999"),
        ("dpop_jkt", "short"),
        ("resource", "not a url"),
        ("nonce", "n" * 3000),
    ],
)
def test_odd_optional_parameters_are_no_accident(idp: Idp, name: str, value: str) -> None:
    answer = ask(idp, idp.request_url(**{name: value}))
    assert answer.status_code in (302, 303, 400)
    assert "<script>alert" not in answer.text
    if "location" in answer.headers:
        assert answer.headers["location"].startswith((CALLBACK, "/auth/", idp.issuer))


@pytest.mark.parametrize(
    "uri",
    [
        "urn:ietf:params:oauth:request_uri:unknown",
        "https://evil.example/request.jwt",
        "http://127.0.0.1:22/",
        "file:///etc/passwd",
    ],
)
def test_a_request_uri_of_nobody_is_refused_and_not_fetched(idp: Idp, uri: str) -> None:
    answer = ask(idp, idp.request_url(request_uri=uri))
    if "location" in answer.headers:
        assert back(answer)["error"] in ("invalid_request_uri", "request_uri_not_supported", "invalid_request")
    else:
        assert answer.status_code == 400


def test_an_authorization_request_may_be_posted(idp: Idp) -> None:
    answer = idp.ask("POST", idp.endpoint("authorization_endpoint"), data=idp.parameters())
    assert answer.status_code in (302, 303)
    assert answer.headers["location"].removeprefix(idp.bank.url).startswith("/auth/sign-in")


def test_asking_for_a_fresh_sign_in_shows_it_again(idp: Idp) -> None:
    at = idp.browser.open(idp.request_url(prompt="login"))
    assert not isinstance(at, str)
    assert idp.browser.form_with("password")
