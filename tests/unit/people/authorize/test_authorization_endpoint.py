"""The authorization endpoint: what is asked, what is answered, and where refusals go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import msgspec
import pytest
from tests.authorize_support import (
    CALLBACK,
    ORIGIN,
    SHY,
    Room,
    asked,
    right_request,
    room,
    sent,
)
from tests.people_harness import ISSUER

from rempart.kernel.errors import Conflict, NotFound
from rempart.people.authorize.model import Step
from rempart.people.oauth.profile import FAPI2
from rempart.people.requests import application


def within(body: Callable[[Room], Awaitable[None]], **options: object) -> None:
    async def run() -> None:
        async with room(**options) as it:  # type: ignore[arg-type]
            await body(it)

    asyncio.run(run())


def test_who_is_signed_in_gets_a_code_with_state_and_issuer() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        answer = await it.authorize()
        parameters = sent(answer)
        assert (parameters["state"], parameters["iss"]) == ("s t&=?", ISSUER)
        assert len(parameters["code"]) == 43
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        events = [event for event in it.recorder.events if event.details.get("token") == "code"]
        assert [event.details["client"] for event in events] == ["app"]
        assert parameters["code"] not in repr(it.recorder.events)

    within(body)


def test_who_is_not_is_asked_to_sign_in_and_then_goes_on() -> None:
    async def body(it: Room) -> None:
        handle = asked(await it.authorize(login_hint="ann@bank.example", ui_locales="fr-CA en"))
        interactions = it.authorization.interactions
        shown = await interactions.get(handle, None)
        assert (shown.step, shown.client_name, shown.login_hint, shown.locale) == (
            *(Step.SIGN_IN, "The app", "ann@bank.example", "fr"),
        )
        assert (shown.redirect_host, shown.redirect_source) == ("app.example", "https://app.example")
        session = (await it.sign_in()).session
        assert (await interactions.get(handle, session)).step is Step.READY
        outgoing = await interactions.decide(handle, session, None, ORIGIN)
        assert outgoing.parameters["code"]
        with pytest.raises(NotFound):
            await interactions.decide(handle, session, None, ORIGIN)

    within(body)


def test_of_many_decisions_one_is_answered() -> None:
    async def body(it: Room) -> None:
        handle = asked(await it.authorize())
        session = (await it.sign_in()).session
        tries = [it.authorization.interactions.decide(handle, session, None, ORIGIN) for _ in range(10)]
        done = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(not isinstance(each, BaseException) for each in done) == 1

    within(body)


def test_a_client_that_needs_consent_asks_once_per_scope() -> None:
    async def body(it: Room) -> None:
        session = (await it.sign_in()).session
        interactions, uri = it.authorization.interactions, SHY.redirect_uris[0]
        ask = {"client_id": "shy", "redirect_uri": uri}
        assert sent(await it.authorize(**ask, prompt="none"), uri)["error"] == "consent_required"
        handle = asked(await it.authorize(**ask, scope="openid email profile"), "consent")
        with pytest.raises(Conflict):
            await interactions.decide(handle, session, None, ORIGIN)
        outgoing = await interactions.decide(handle, session, ("email",), ORIGIN)
        assert outgoing.parameters["code"]
        assert "code" in sent(await it.authorize(**ask, scope="openid email", prompt="none"), uri)
        assert (
            sent(await it.authorize(**ask, scope="openid profile", prompt="none"), uri)["error"] == "consent_required"
        )
        consents = it.authorization.consents
        assert [c.scopes for c in await consents.of_account(session.account_id)] == [("openid", "email")]
        changed = [e for e in it.recorder.events if str(e.type) == "people.consent_changed"]
        assert [(e.before, e.after) for e in changed] == [({"scopes": []}, {"scopes": ["openid", "email"]})]
        assert await consents.revoke(session.account_id, "shy", ORIGIN)
        assert not await consents.revoke(session.account_id, "shy", ORIGIN)
        assert sent(await it.authorize(**ask, prompt="none"), uri)["error"] == "consent_required"

    within(body)


def test_what_was_given_to_an_earlier_client_of_the_same_id_is_not_this_ones() -> None:
    async def body(it: Room) -> None:
        uri = SHY.redirect_uris[0]
        ask = {"client_id": "shy", "redirect_uri": uri}
        session = (await it.sign_in()).session
        await it.authorization.consents.grant(session.account_id, SHY, ("openid", "email"), ORIGIN)
        assert "code" in sent(await it.authorize(**ask, prompt="none"), uri)
        it.clock.advance(1)
        it.clients.clients["shy"] = later = msgspec.structs.replace(SHY, created_at=it.clock.now())
        assert sent(await it.authorize(**ask, prompt="none"), uri)["error"] == "consent_required"
        await it.authorization.consents.grant(session.account_id, later, ("openid",), ORIGIN)
        assert [c.scopes for c in await it.authorization.consents.of_account(session.account_id)] == [("openid",)]
        assert "code" in sent(await it.authorize(**ask, prompt="none"), uri)

    within(body)


def test_the_operator_sees_and_takes_back_consents() -> None:
    async def body(it: Room) -> None:
        session = (await it.sign_in()).session
        uri = SHY.redirect_uris[0]
        handle = asked(await it.authorize(client_id="shy", redirect_uri=uri), "consent")
        await it.authorization.interactions.decide(handle, session, ("openid",), ORIGIN)
        transport = httpx.ASGITransport(application(it.authorization.operators))
        async with httpx.AsyncClient(transport=transport, base_url="http://people") as operator:
            path = "/users/ann@bank.example/consents"
            told = (await operator.get(path)).json()["consents"]
            assert [(one["client_id"], one["scopes"]) for one in told] == [("shy", ["openid"])]
            assert (await operator.delete(f"{path}/shy")).status_code == 204
            assert (await operator.delete(f"{path}/shy")).status_code == 404
            assert (await operator.get(path)).json() == {"consents": []}
            assert (await operator.get("/users/nobody@bank.example/consents")).status_code == 404
        changed = [event for event in it.recorder.events if str(event.type) == "people.consent_changed"]
        assert [event.operator is None for event in changed] == [True, False]

    within(body)


def test_saying_no_goes_back_as_access_denied() -> None:
    async def body(it: Room) -> None:
        handle = asked(await it.authorize())
        outgoing = await it.authorization.interactions.deny(handle, ORIGIN)
        assert outgoing.redirect_uri == CALLBACK
        assert outgoing.parameters["error"] == "access_denied"
        assert (outgoing.parameters["state"], outgoing.parameters["iss"]) == ("s t&=?", ISSUER)
        with pytest.raises(NotFound):
            await it.authorization.interactions.get(handle, None)

    within(body)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({}, "login_required"),
        ({"max_age": "0"}, "login_required"),
    ],
)
def test_prompt_none_without_a_session_asks_nobody(changes: dict[str, str], error: str) -> None:
    async def body(it: Room) -> None:
        assert sent(await it.authorize(prompt="none", **changes))["error"] == error

    within(body)


def test_prompt_none_and_what_the_session_lacks() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        it.clock.advance(100)
        assert sent(await it.authorize(prompt="none", max_age="60"))["error"] == "login_required"
        assert sent(await it.authorize(prompt="none", acr_values="mfa"))["error"] == "interaction_required"
        assert "code" in sent(await it.authorize(prompt="none", max_age="1000", acr_values="1fa"))

    within(body)


@pytest.mark.parametrize("changes", [{"prompt": "login"}, {"max_age": "60"}, {"max_age": "0"}])
def test_a_new_proof_is_one_that_was_made_after_the_request(changes: dict[str, str]) -> None:
    async def body(it: Room) -> None:
        old = (await it.sign_in()).session
        it.clock.advance(100)
        handle = asked(await it.authorize(**changes))
        interactions = it.authorization.interactions
        assert (await interactions.get(handle, old)).step is Step.SIGN_IN
        with pytest.raises(Conflict):
            await interactions.decide(handle, old, None, ORIGIN)
        new = (await it.sign_in()).session
        assert (await interactions.decide(handle, new, None, ORIGIN)).parameters["code"]

    within(body)


def test_a_step_up_is_demanded_by_acr_values_and_by_an_essential_claim() -> None:
    async def body(it: Room) -> None:
        weak = (await it.sign_in()).session
        claims = '{"id_token": {"acr": {"essential": true, "values": ["phr"]}}}'
        interactions = it.authorization.interactions
        for changes, enough in (
            ({"acr_values": "mfa"}, ("pwd", "otp", "mfa")),
            ({"acr_values": "phr mfa"}, ("pwd", "otp", "mfa")),
            ({"claims": claims}, ("pwd", "hwk", "user", "mfa")),
        ):
            handle = asked(await it.authorize(**changes))
            shown = await interactions.get(handle, weak)
            assert (shown.step, shown.acr) == (Step.STEP_UP, "phr" if "claims" in changes else "mfa")
            with pytest.raises(Conflict):
                await interactions.decide(handle, weak, None, ORIGIN)
            strong = (await it.sign_in(amr=enough)).session
            assert (await interactions.decide(handle, strong, None, ORIGIN)).parameters["code"]
            weak = (await it.sign_in()).session
        handle = asked(await it.authorize(acr_values="mfa"))
        outgoing = await interactions.deny(handle, ORIGIN, "unmet_authentication_requirements")
        assert outgoing.parameters["error"] == "unmet_authentication_requirements"
        answer = sent(await it.authorize(acr_values="gold"))
        assert answer["error"] == "unmet_authentication_requirements"

    within(body)


def test_select_account_goes_on_with_the_chosen_session_only() -> None:
    async def body(it: Room) -> None:
        session = (await it.sign_in()).session
        interactions = it.authorization.interactions
        handle = asked(await it.authorize(prompt="select_account"))
        assert (await interactions.get(handle, session)).step is Step.SELECT_ACCOUNT
        await interactions.choose(handle, session)
        assert (await interactions.get(handle, session)).step is Step.READY
        other = (await it.sign_in("bob@bank.example")).session
        assert (await interactions.get(handle, other)).step is Step.READY  # who signs in just now has chosen

    within(body)


def test_an_id_token_hint_names_who_it_must_be() -> None:
    async def body(it: Room) -> None:
        session = (await it.sign_in()).session
        granted = await it.redeem(await it.code())
        assert granted.id_token is not None
        hint = granted.id_token("at")
        it.clock.advance(100 * 3600)  # however old it is
        assert sent(await it.authorize(id_token_hint=hint, prompt="none"))["error"] == "login_required"
        bob = (await it.sign_in("bob@bank.example")).session
        assert sent(await it.authorize(id_token_hint=hint, prompt="none"))["error"] == "login_required"
        handle = asked(await it.authorize(id_token_hint=hint))
        with pytest.raises(Conflict):
            await it.authorization.interactions.decide(handle, bob, None, ORIGIN)
        ann = (await it.sign_in()).session
        assert ann.account_id == session.account_id
        assert "code" in sent(await it.authorize(id_token_hint=hint, prompt="none"))
        wanted = '{"id_token": {"sub": {"value": "usr_other"}}}'
        assert sent(await it.authorize(claims=wanted, prompt="none"))["error"] == "login_required"
        assert sent(await it.authorize(id_token_hint=hint, claims=wanted))["error"] == "login_required"
        assert sent(await it.authorize(id_token_hint=hint[:-3] + "AAA"))["error"] == "invalid_request"
        shy = {"client_id": "shy", "redirect_uri": SHY.redirect_uris[0]}
        answer = await it.authorize(id_token_hint=hint, **shy)
        assert sent(answer, SHY.redirect_uris[0])["error"] == "invalid_request"

    within(body)


def test_form_post_carries_the_answer_in_a_form_and_escapes_it() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        answer = await it.authorize(response_mode="form_post", state='"><script>alert(1)</script>')
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        assert "<script>alert" not in answer.text
        assert f'action="{CALLBACK}"' in answer.text
        policy = answer.headers["content-security-policy"]
        assert "form-action https://app.example;" in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "submit()" in (await it.browser.get("/auth/form-post.js")).text
        answer = await it.authorize(response_mode="form_post", scope="nonsense")
        assert 'value="invalid_scope"' in answer.text

    within(body)


def test_a_post_from_a_page_comes_again_by_get_so_that_the_cookie_is_sent() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        assert "code" in sent(await it.authorize("POST"))
        form = {name: value for name, value in right_request().items() if value}
        answer = await it.browser.post("/auth/authorize", data=form, headers={"origin": "https://app.example"})
        again = answer.headers["location"]
        assert (answer.status_code, again.startswith(f"{ISSUER}/authorize?client_id=app&request_uri=urn")) == (
            303,
            True,
        )
        assert "code" in sent(await it.browser.get(again))

    within(body)


def test_a_head_request_makes_no_code() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        before = len(it.recorder.events)
        parameters = {name: value for name, value in right_request().items() if value}
        assert (await it.browser.head("/auth/authorize", params=parameters)).status_code == 400
        assert len(it.recorder.events) == before

    within(body)


def test_a_pushed_request_is_used_once_by_its_client_while_it_is_fresh() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        form = {name: value for name, value in right_request().items() if value}

        async def push(**changes: str) -> str:
            answer = await it.browser.post("/auth/par", data={**form, **changes})
            assert (answer.status_code, answer.json()["expires_in"]) == (201, 60)
            uri: str = answer.json()["request_uri"]
            return uri

        only = {"redirect_uri": None, "scope": "openid email", "state": "changed", "code_challenge": None}
        uri = await push()
        answer = await it.authorize(request_uri=uri, **only)
        assert sent(answer)["state"] == "s t&=?"  # nothing of the query counts
        assert (await it.authorize(request_uri=uri)).status_code == 400
        uri = await push()
        assert (await it.authorize(request_uri=uri, client_id="native")).status_code == 400
        assert "code" in sent(await it.authorize(request_uri=uri))
        uri = await push()
        it.clock.advance(61)
        assert (await it.authorize(request_uri=uri)).status_code == 400

    within(body)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"client_id": "nobody"}, 401),
        ({"redirect_uri": "https://evil.example/"}, 400),
        ({"request_uri": "urn:x"}, 400),
        ({"request": "e30."}, 400),
        ({"scope": "admin"}, 400),
        ({"code_challenge_method": "plain"}, 400),
        ({"dpop_jkt": "a" * 43}, 400),
    ],
)
def test_what_is_wrong_with_a_pushed_request_is_told_at_once(changes: dict[str, str], status: int) -> None:
    async def body(it: Room) -> None:
        form = {**{name: value for name, value in right_request().items() if value}, **changes}
        answer = await it.browser.post("/auth/par", data=form, headers={"x-test-key": "k" * 43})
        assert (answer.status_code, "error" in answer.json()) == (status, True)

    within(body)


def test_the_strict_profile_takes_pushed_requests_only() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        assert sent(await it.authorize())["error"] == "invalid_request"
        form = {name: value for name, value in right_request().items() if value}
        uri = (await it.browser.post("/auth/par", data=form)).json()["request_uri"]
        assert "code" in sent(await it.authorize(request_uri=uri))

    within(body, profile=FAPI2)


def test_a_native_client_is_answered_at_its_port() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        uri = "http://127.0.0.1:4711/cb"
        assert sent(await it.authorize(client_id="native", redirect_uri=uri), uri)["code"]

    within(body)
