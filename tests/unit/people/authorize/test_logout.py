"""Signing out for a client, and telling the others (OpenID Connect RP-Initiated and Back-Channel Logout)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import msgspec
import pytest
from tests.authorize_support import APP, NATIVE, ORIGIN, SHY, Room, room, sent
from tests.people_harness import ISSUER

from rempart.backends.sql_logouts import SqlLogouts
from rempart.kernel.errors import BadInput, NotFound
from rempart.people.accounts import Actor
from rempart.people.authorize.backchannel import DELAYS, LEASE
from rempart.people.sessions.model import Session

BYE = "https://app.example/bye"


def within(body: Callable[[Room], Awaitable[None]]) -> None:
    async def run() -> None:
        async with room() as it:
            await body(it)

    asyncio.run(run())


async def signed_in(it: Room) -> tuple[Session, str]:
    """A session in which the app got tokens, and its ID token."""
    session = (await it.sign_in()).session
    granted = await it.redeem(await it.code())
    await it.family(granted)
    assert granted.id_token is not None
    return session, granted.id_token("at")


async def log_out(it: Room, method: str = "GET", **parameters: str) -> httpx.Response:
    if method == "POST":
        return await it.browser.post("/auth/logout", data=parameters)
    return await it.browser.get("/auth/logout", params=parameters)


def test_the_clients_own_id_token_ends_the_session_without_a_question() -> None:
    async def body(it: Room) -> None:
        session, hint = await signed_in(it)
        answer = await log_out(it, id_token_hint=hint, post_logout_redirect_uri=BYE, state="s 1")
        assert sent(answer, BYE) == {"state": "s 1"}
        assert "__Host-rempart-session=" in answer.headers["set-cookie"]
        assert await it.sessions.alive(session.id) is None

    within(body)


def test_an_expired_hint_is_still_a_hint() -> None:
    async def body(it: Room) -> None:
        session, hint = await signed_in(it)
        it.clock.advance(3000)
        await log_out(it, id_token_hint=hint)
        assert await it.sessions.alive(session.id) is None

    within(body)


@pytest.mark.parametrize("given", ["nothing", "client_id", "another session's hint"])
def test_otherwise_the_person_is_asked(given: str) -> None:
    async def body(it: Room) -> None:
        _, hint = await signed_in(it)
        session = (await it.sign_in()).session
        parameters = {
            "nothing": {},
            "client_id": {"client_id": "app", "post_logout_redirect_uri": BYE},
            "another session's hint": {"id_token_hint": hint, "post_logout_redirect_uri": BYE},
        }[given]
        answer = await log_out(it, **parameters)
        handle = sent(answer, f"{ISSUER}/sign-out")["request"]
        assert await it.sessions.alive(session.id) is not None
        logouts = it.authorization.logouts
        prompt = await logouts.get(handle, session)
        assert (prompt.asks, prompt.client_name) == (True, "" if given == "nothing" else "The app")
        outgoing = await logouts.confirm(handle, session, ORIGIN)
        assert (outgoing.redirect_uri if outgoing else None) == (None if given == "nothing" else BYE)
        assert await it.sessions.alive(session.id) is None
        with pytest.raises(NotFound):
            await logouts.confirm(handle, session, ORIGIN)

    within(body)


def test_a_form_on_another_site_goes_by_the_page_which_has_the_cookie() -> None:
    async def body(it: Room) -> None:
        session, _ = await signed_in(it)
        it.browser.cookies.clear()
        answer = await log_out(it, "POST", client_id="app", post_logout_redirect_uri=BYE)
        handle = sent(answer, f"{ISSUER}/sign-out")["request"]
        assert (await it.authorization.logouts.get(handle, session)).asks
        assert await it.authorization.logouts.confirm(handle, session, ORIGIN)
        assert await it.sessions.alive(session.id) is None

    within(body)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_hint_is_enough_where_no_cookie_came(method: str) -> None:
    async def body(it: Room) -> None:
        session, hint = await signed_in(it)
        it.browser.cookies.clear()
        assert sent(await log_out(it, method, id_token_hint=hint, post_logout_redirect_uri=BYE), BYE) == {}
        assert await it.sessions.alive(session.id) is None

    within(body)


def test_who_is_not_signed_in_goes_straight_back() -> None:
    async def body(it: Room) -> None:
        _, hint = await signed_in(it)
        it.browser.cookies.clear()
        assert sent(await log_out(it, id_token_hint=hint, post_logout_redirect_uri=BYE), BYE) == {}
        sent(await log_out(it), f"{ISSUER}/signed-out")

    within(body)


@pytest.mark.parametrize(
    "parameters",
    [
        {"post_logout_redirect_uri": BYE},
        {"client_id": "app", "post_logout_redirect_uri": "https://evil.example/"},
        {"client_id": "app", "post_logout_redirect_uri": BYE + "/"},
        {"client_id": "app", "post_logout_redirect_uri": "https://app.example/cb"},
        {"client_id": "nobody"},
        {"client_id": "app\x00"},
        {"id_token_hint": "nonsense"},
        {"id_token_hint": "e30.e30.e30"},
    ],
)
def test_nobody_is_sent_where_no_client_said(parameters: dict[str, str]) -> None:
    async def body(it: Room) -> None:
        session, hint = await signed_in(it)
        for method in ("GET", "POST"):
            answer = await log_out(it, method, **parameters)
            assert (answer.status_code, "location" in answer.headers) == (400, False)
        assert (await log_out(it, id_token_hint=hint, client_id="shy")).status_code == 400
        assert (await log_out(it, id_token_hint=hint[:-4] + "AAAA")).status_code == 400
        assert (await it.browser.get("/auth/logout?state=1&state=2")).status_code == 400
        assert await it.sessions.alive(session.id) is not None

    within(body)


def test_an_access_token_is_no_hint() -> None:
    async def body(it: Room) -> None:
        await signed_in(it)
        claims = {"iss": ISSUER, "aud": "app", "sub": "usr_x", "iat": 1, "exp": 2**33}
        token = it.people.keys.access_signer.sign(claims, typ="at+jwt")
        assert (await log_out(it, id_token_hint=token)).status_code == 400

    within(body)


def test_every_client_of_the_session_is_told_and_what_was_not_offline_ends() -> None:
    async def body(it: Room) -> None:
        session = (await it.sign_in()).session
        bound = await it.redeem(await it.code())
        await it.family(bound)
        offline = await it.redeem(await it.code(scope="openid offline_access"))
        await it.family(offline)
        await it.sessions.end(session.id, "elsewhere", ORIGIN)
        assert (await it.stands(bound), await it.stands(offline)) == (False, True)
        assert await it.authorization.back_channel.deliver() == 1
        [(uri, token)] = it.listener.got
        assert uri == APP.backchannel_logout_uri
        claims = it.claims(token, typ="logout+jwt")
        assert (claims["sid"], claims["sub"]) == (session.id, session.account_id)
        assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
        assert "nonce" not in claims
        assert await it.authorization.back_channel.deliver() == 0

    within(body)


def test_a_client_that_is_down_is_told_later_and_not_for_ever() -> None:
    async def body(it: Room) -> None:
        session, _ = await signed_in(it)
        it.listener.up = False
        channel = it.authorization.back_channel
        await it.sessions.end(session.id, "elsewhere", ORIGIN)
        for delay in DELAYS:
            assert await channel.deliver() == 1
            assert await channel.deliver() == 0
            it.clock.advance(delay + 1)
        assert await channel.deliver() == 1
        it.clock.advance(100_000)
        assert await channel.deliver() == 0
        failed = [event for event in it.recorder.events if event.details.get("told") is False]
        assert [event.details["attempts"] for event in failed] == [len(DELAYS) + 1]

    within(body)


def test_a_delivery_that_a_crash_cut_off_is_sent_again_after_its_lease() -> None:
    async def body(it: Room) -> None:
        session, _ = await signed_in(it)
        await it.sessions.end(session.id, "elsewhere", ORIGIN)
        taken = await SqlLogouts(it.people.database).due(it.clock.now(), LEASE, 10)
        assert len(taken) == 1  # and the process dies here
        assert await it.authorization.back_channel.deliver() == 0
        it.clock.advance(LEASE + 1)
        assert await it.authorization.back_channel.deliver() == 1
        assert len(it.listener.got) == 1

    within(body)


def test_it_goes_only_to_the_address_that_is_registered_now() -> None:
    async def body(it: Room) -> None:
        session, _ = await signed_in(it)
        moved = msgspec.structs.replace(APP, backchannel_logout_uri="https://new.example/logout")
        it.clients.clients["app"] = moved
        await it.sessions.end(session.id, "elsewhere", ORIGIN)
        await it.authorization.back_channel.deliver()
        assert [uri for uri, _ in it.listener.got] == ["https://new.example/logout"]
        session, _ = await signed_in(it)
        await it.sessions.end(session.id, "elsewhere", ORIGIN)
        del it.clients.clients["app"]
        await it.authorization.back_channel.deliver()
        assert len(it.listener.got) == 1
        it.clock.advance(100_000)
        assert await it.authorization.back_channel.deliver() == 0

    within(body)


def test_clients_without_such_an_address_are_not_told() -> None:
    async def body(it: Room) -> None:
        session = (await it.sign_in()).session
        uri = NATIVE.redirect_uris[0]
        await it.redeem(sent(await it.authorize(client_id="native", redirect_uri=uri), uri)["code"], NATIVE)
        await it.sessions.end(session.id, "elsewhere", ORIGIN)
        assert await it.authorization.back_channel.deliver() == 0
        assert SHY.backchannel_logout_uri == ""

    within(body)


@pytest.mark.parametrize("change", [{"disabled": True}, {"role": "audit"}])
def test_clients_are_told_when_an_account_is_disabled_or_changed(change: dict[str, object]) -> None:
    async def body(it: Room) -> None:
        session, _ = await signed_in(it)
        await it.authorization.back_channel.deliver()
        it.clock.advance(5)
        await it.people.accounts.change(session.account_id, change, Actor(ORIGIN))
        assert await it.authorization.back_channel.deliver() == 1
        assert it.claims(it.listener.got[0][1], typ="logout+jwt")["sid"] == session.id

    within(body)


def test_what_is_granted_while_the_session_ends_is_worth_nothing() -> None:
    async def body(it: Room) -> None:
        session = (await it.sign_in()).session
        for scope in ("openid", "openid offline_access"):
            granted = await it.redeem(await it.code(scope=scope))
            if scope == "openid":
                late = granted
        await it.sessions.end(session.id, "logout", ORIGIN)
        for each in (late, granted):
            with pytest.raises(BadInput):
                await it.family(each)
            assert not await it.stands(each)

    within(body)
