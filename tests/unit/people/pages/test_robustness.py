"""Pages on the real rooms: whatever is sent, to whatever page, signed in or not, the answer is never a 5xx."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.pages_browser import SAME, Html
from tests.people_harness import PASSWORD, Harness, came_from, harness

PATHS = (
    *("sign-in", "sign-in/factor", "sign-in/set-up", "sign-in/set-up/authenticator", "sign-in/set-up/passkey"),
    *("consent", "device", "device/approved", "sign-out", "signed-out", "forgot", "lost-factor", "reset"),
    *("invitation", "factor-reset", "account", "account/security", "account/authenticator", "account/passkey"),
    *("account/password", "account/sessions", "account/activity", "account/applications", "account/data"),
)
QUERY = (
    "interaction",
    "next",
    "user_code",
    "request",
    "token",
    "lang",
    "ui_locales",
    "notice",
    "done",
    "again",
    "other",
)
FIELDS = (
    *("email", "password", "repeated", "current", "code", "passkey", "passkey_id", "name", "place", "client_id"),
    *("do", "decision", "refuse", "choose", "user_code"),
)
WORDS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            *(
                "",
                "\x00",
                "é" * 300,
                "a" * 5000,
                "%00",
                "../..",
                "1",
                "approve",
                "all",
                "rename_passkey",
                "remove_passkey",
            ),
            *("remove_totp", "backup_codes", "[]", "{}", '{"id":1}', "[" * 2000, '{"type":"public-key","response":{}}'),
            *("x" * 43, "ses_x", "WDJB-MJHT", PASSWORD),
        ]
    ),
)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[asyncio.Runner, Harness]]:
    with asyncio.Runner() as runner:
        context = harness(unsafe_disabled=["login-throttle"])
        h = runner.run(context.__aenter__())
        runner.run(h.add("ann@bank.example"))
        yield runner, h
        runner.run(context.__aexit__(None, None, None))


async def signed_in(h: Harness) -> str:
    """The form token of Ann's browser."""
    h.api.cookies.clear()
    where = came_from("203.0.113.7")
    page = await h.api.get("/auth/sign-in", headers=where)
    fields = {"form_token": Html(page.text).form_token, "email": "ann@bank.example", "password": PASSWORD}
    answer = await h.api.post("/auth/sign-in", data=fields, headers={**where, **SAME})
    assert answer.headers.get("location") == "/auth/account", answer.text
    return Html((await h.api.get("/auth/account", headers=where)).text).form_token


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(PATHS),
    st.dictionaries(st.sampled_from(QUERY), WORDS, max_size=3),
    st.none() | st.dictionaries(st.sampled_from(FIELDS), WORDS, max_size=4),
    st.sampled_from(["nobody", "ann", "half"]),
)
def test_no_input_breaks_a_page(
    running: tuple[asyncio.Runner, Harness], path: str, query: dict[str, str], form: dict[str, str] | None, who: str
) -> None:
    runner, h = running

    async def ask() -> httpx.Response:
        where = came_from("203.0.113.7")
        token = await signed_in(h)
        if who != "ann":
            h.api.cookies.delete("__Host-rempart-session")
            if who == "half":
                h.api.cookies.set("__Host-rempart-step", "x" * 60, domain="people")
            token = Html((await h.api.get("/auth/sign-in", headers=where)).text).form_token
        if form is None:
            return await h.api.get(f"/auth/{path}", params=query, headers=where)
        data = {"form_token": token, **form}
        return await h.api.post(f"/auth/{path}", params=query, data=data, headers={**where, **SAME})

    answer = runner.run(ask())
    assert answer.status_code < 500, (path, query, form, answer.text[:400])
    if answer.status_code == 303:
        assert answer.headers["location"].startswith("/auth/")


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"form_token=%ff",
        b"a=1&a=2",
        b"=" * 100,
        b"&" * 20000,
        b"form_token=" + b"a" * 20000,
        b"%ED%A0%80=1",
    ],
)
def test_a_broken_body_is_a_page_that_says_so(running: tuple[asyncio.Runner, Harness], body: bytes) -> None:
    runner, h = running
    kind = {"content-type": "application/x-www-form-urlencoded", **SAME, **came_from("203.0.113.7")}
    answer = runner.run(h.api.post("/auth/sign-in", content=body, headers=kind))
    assert answer.status_code in (400, 403, 413)
    assert answer.headers["content-type"].startswith("text/html")


def test_looking_does_nothing(running: tuple[asyncio.Runner, Harness]) -> None:
    runner, h = running

    async def scenario() -> None:
        await signed_in(h)
        for path in ("sign-out?request=xxxxxxxxxx", "sign-in?interaction=xxxxxxxxxx", "account"):
            answer = await h.api.head(f"/auth/{path}", headers=came_from("203.0.113.7"))
            assert (answer.status_code, answer.content) == (200, b"")

    runner.run(scenario())
