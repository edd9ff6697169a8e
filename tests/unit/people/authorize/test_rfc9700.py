"""RFC 9700 (Best Current Practice for OAuth 2.0 Security), point by point, as far as this room has a part in it.

Client authentication, refresh tokens and sender constraint at the token endpoint are held to it in `oauth/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import msgspec
import pytest
from tests.authorize_support import APP, CALLBACK, ORIGIN, SHY, VERIFIER, Room, asked, right_request, room, sent
from tests.people_harness import ISSUER

from rempart.kernel.errors import BadInput
from rempart.people.oauth.client_rules import check_client
from rempart.people.oauth.model import Client
from rempart.people.oauth.profile import BASELINE


def within(body: Callable[[Room], Awaitable[None]], *clients: Client) -> None:
    async def run() -> None:
        async with room(*clients) as it:
            await body(it)

    asyncio.run(run())


@pytest.mark.parametrize(
    "uri", [CALLBACK + "/", CALLBACK + "?a=b", "https://APP.example/cb", "https://app.example:443/cb"]
)
def test_2_1_and_4_1_3_redirect_uris_match_exactly(uri: str) -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        answer = await it.authorize(redirect_uri=uri)
        assert (answer.status_code, "location" in answer.headers) == (400, False)

    within(body)


@pytest.mark.parametrize("uri", ["https://*.example/cb", "http://app.example/cb", "https://app.example/cb#f"])
def test_4_1_3_no_pattern_and_no_plain_http_is_registered(uri: str) -> None:
    with pytest.raises(BadInput):
        check_client(msgspec.structs.replace(APP, redirect_uris=(uri,)), BASELINE)


@pytest.mark.parametrize("kind", ["token", "id_token", "id_token token", "code token", "code id_token", "none"])
def test_2_1_2_there_is_no_implicit_grant(kind: str) -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        assert sent(await it.authorize(response_type=kind))["error"] == "unsupported_response_type"
        assert it.authorization.metadata["response_types_supported"] == ["code"]

    within(body)


@pytest.mark.parametrize("without", [("code_challenge",), ("code_challenge", "code_challenge_method")])
@pytest.mark.parametrize("client", [APP, SHY])
def test_2_1_1_and_4_8_2_pkce_is_required_of_everybody_and_cant_be_talked_down(
    without: tuple[str, ...], client: Client
) -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        uri = client.redirect_uris[0]
        ask = {"client_id": client.id, "redirect_uri": uri}
        changes: dict[str, str | None] = {**ask, **dict.fromkeys(without)}
        assert sent(await it.authorize(**changes), uri)["error"] == "invalid_request"
        plain = await it.authorize(**ask, code_challenge=VERIFIER, code_challenge_method="plain")
        assert sent(plain, uri)["error"] == "invalid_request"

    within(body)


def test_4_5_3_a_code_that_was_injected_fits_no_other_request() -> None:
    """The thief's own request has another challenge, so its verifier doesn't fit the stolen code."""

    async def body(it: Room) -> None:
        await it.sign_in()
        stolen = await it.code(nonce="the victim's")
        with pytest.raises(BadInput):
            await it.redeem(stolen, code_verifier="t" * 43)
        granted = await it.redeem(await it.code(nonce="n-5"))
        assert granted.id_token is not None
        assert it.claims(granted.id_token("at"))["nonce"] == "n-5"

    within(body)


def test_4_5_a_code_is_short_lived_and_bound_to_its_client() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        code = await it.code()
        with pytest.raises(BadInput):
            await it.redeem(code, SHY, redirect_uri=CALLBACK)
        it.clock.advance(61)
        with pytest.raises(BadInput):
            await it.redeem(code)

    within(body)


def test_4_4_2_every_answer_names_its_issuer() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        assert sent(await it.authorize())["iss"] == ISSUER
        assert sent(await it.authorize(scope="nonsense"))["iss"] == ISSUER
        handle = asked(await it.authorize(prompt="login"))
        assert (await it.authorization.interactions.deny(handle, ORIGIN)).parameters["iss"] == ISSUER
        assert it.authorization.metadata["authorization_response_iss_parameter_supported"] is True

    within(body)


def test_4_2_4_nothing_leaks_by_referrer_cache_or_foreign_content() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        for answer in (
            await it.authorize(),
            await it.authorize(response_mode="form_post"),
            await it.authorize(redirect_uri="https://evil.example/"),
            await it.authorize(prompt="login"),
        ):
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cache-control"] == "no-store"
            assert "https://" not in answer.text.replace(CALLBACK, "").replace(ISSUER, "")

    within(body)


def test_4_3_2_no_access_token_is_taken_from_an_address() -> None:
    async def body(it: Room) -> None:
        account = await it.account()
        token = it.people.tokens.mint(account, session="s", amr=(), auth_time=0, scope="openid")
        assert (await it.browser.get("/auth/userinfo", params={"access_token": token})).status_code == 401

    within(body)


def test_4_7_1_what_a_client_needs_against_forged_answers_comes_back_as_it_was() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        for state in ("a b+c%20", "é☃", "&code=stolen&x=", "s" * 1000):
            answer = sent(await it.authorize(state=state))
            assert answer["state"] == state
            assert answer["code"] != "stolen"

    within(body)


def test_4_11_2_the_endpoint_is_no_open_redirector() -> None:
    async def body(it: Room) -> None:
        for changes in ({"client_id": "nobody"}, {"redirect_uri": "https://evil.example/"}, {"scope": None}):
            answer = await it.authorize(**changes)
            assert answer.headers.get("location", CALLBACK).startswith(CALLBACK)

    within(body)


def test_4_11_2_who_registered_themselves_can_send_nobody_anywhere_by_a_bad_request() -> None:
    stranger = msgspec.structs.replace(APP, registered="dynamic")

    async def body(it: Room) -> None:
        answer = await it.authorize(scope="nonsense")
        assert (answer.status_code, "location" in answer.headers) == (400, False)
        assert sent(await it.authorize(prompt="none"))["error"] == "login_required"
        await it.sign_in()
        assert sent(await it.authorize())["code"]

    within(body, stranger)


def test_4_11_2_who_registered_themselves_gets_no_call_from_us() -> None:
    stranger = msgspec.structs.replace(APP, registered="dynamic")

    async def body(it: Room) -> None:
        session = (await it.sign_in()).session
        await it.redeem(await it.code(), stranger)
        await it.sessions.end(session.id, "logout", ORIGIN)
        assert await it.authorization.back_channel.deliver() == 0

    within(body, stranger)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_4_12_no_redirect_repeats_a_post(method: str) -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        assert (await it.authorize(method)).status_code == 303
        assert (await it.authorize(method, prompt="login")).status_code == 303
        assert (await it.authorize(method, scope="x")).status_code == 303

    within(body)


def test_4_13_headers_of_a_proxy_are_believed_once() -> None:
    async def body(it: Room) -> None:
        query = urlencode({name: value for name, value in right_request().items() if value})
        headers = [("x-spiffe-id", "spiffe://bank.example/rempart/gateway"), ("x-spiffe-id", "spiffe://evil.example/x")]
        it.browser.headers.clear()
        answer = await it.browser.get(f"/auth/authorize?{query}", headers=headers)
        assert (answer.status_code, "location" in answer.headers) == (400, False)

    within(body)


def test_4_15_no_client_is_named_like_a_person() -> None:
    with pytest.raises(BadInput):
        check_client(msgspec.structs.replace(APP, id="usr_01abc"), BASELINE)


def test_4_16_answers_cant_be_framed() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        for answer in (await it.authorize(response_mode="form_post"), await it.authorize(client_id="nobody")):
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-frame-options"] == "DENY"

    within(body)


def test_2_3_a_client_gets_no_more_than_its_scopes() -> None:
    narrow = msgspec.structs.replace(APP, scopes=("openid", "email"))

    async def body(it: Room) -> None:
        await it.sign_in()
        assert sent(await it.authorize(scope="openid email session"))["error"] == "invalid_scope"
        assert (await it.redeem(await it.code(scope="openid"), narrow)).scope == ("openid",)

    within(body, narrow)


def test_2_2_1_a_code_can_be_bound_to_the_key_that_pushed_the_request() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        form = {name: value for name, value in right_request().items() if value}
        pushed = await it.browser.post("/auth/par", data=form, headers={"x-test-key": "k" * 43})
        code = sent(await it.authorize(request_uri=pushed.json()["request_uri"]))["code"]
        with pytest.raises(BadInput):
            await it.redeem(code, jkt="t" * 43)

    within(body)
