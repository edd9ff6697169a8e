"""The authorization endpoint's refusals: each in its place (RFC 6749 section 4.1.2.1), whatever comes in."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from tests.authorize_support import CALLBACK, ORIGIN, Room, right_request, room, sent
from tests.people_harness import ISSUER

from rempart.kernel.errors import BadInput, Unavailable
from rempart.people.authorize import answers
from rempart.people.authorize.arrivals import AT_ONCE, WITHIN
from rempart.people.pages.languages import LANGUAGES, catalogue

Body = Callable[[Room], Awaitable[None]]


@pytest.fixture(scope="module")
def shared() -> Iterator[Callable[[Body], None]]:
    """Runs bodies in one room, in which somebody is signed in."""
    loop, context = asyncio.new_event_loop(), room()
    it = loop.run_until_complete(context.__aenter__())
    loop.run_until_complete(it.sign_in())
    yield lambda body: loop.run_until_complete(body(it))
    loop.run_until_complete(context.__aexit__(None, None, None))
    loop.close()


def within(body: Callable[[Room], Awaitable[None]]) -> None:
    async def run() -> None:
        async with room() as it:
            await body(it)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "!" * 43}, "invalid_request"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
        ({"scope": "openid admin"}, "invalid_scope"),
        ({"scope": "openid  email"}, "invalid_scope"),
        ({"scope": 'openid "'}, "invalid_scope"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "bananas"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "١"}, "invalid_request"),
        ({"max_age": "9" * 30}, "invalid_request"),
        ({"request": "e30."}, "request_not_supported"),
        ({"registration": "{}"}, "registration_not_supported"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"nonce": "n" * 600}, "invalid_request"),
        ({"nonce": "ä"}, "invalid_request"),
        ({"state": "s" * 5000}, "invalid_request"),
        ({"claims": "{"}, "invalid_request"),
        ({"claims": "[]"}, "invalid_request"),
        ({"claims": '{"id_token": 1}'}, "invalid_request"),
        ({"claims": '{"id_token": {"acr": 1}}'}, "invalid_request"),
        ({"claims": '{"id_token": {"acr": {"essential": true, "values": [1]}}}'}, "invalid_request"),
        ({"claims": '{"id_token": {"sub": {"value": []}}}'}, "invalid_request"),
        ({"resource": "https://elsewhere.example/"}, "invalid_target"),
        ({"audience": "nobody"}, "invalid_target"),
        ({"dpop_jkt": "short"}, "invalid_request"),
        ({"id_token_hint": "nonsense"}, "invalid_request"),
    ],
)
def test_a_bad_request_goes_back_to_the_client(changes: dict[str, str | None], error: str) -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        parameters = sent(await it.authorize(**changes))
        assert (parameters["error"], parameters["iss"]) == (error, ISSUER)
        assert "code" not in parameters
        if "state" not in changes:
            assert parameters["state"] == "s t&=?"

    within(body)


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"client_id": "nobody"},
        {"client_id": "app\x00"},
        {"client_id": "<b>" * 100},
        {"redirect_uri": None},
        {"redirect_uri": "https://evil.example/cb"},
        {"redirect_uri": CALLBACK + "#"},
        {"redirect_uri": "javascript:alert(1)"},
        {"request_uri": "https://evil.example/request.jwt"},
        {"request_uri": "urn:ietf:params:oauth:request_uri:" + "a" * 43},
    ],
)
def test_what_must_not_be_redirected_is_told_on_a_page(changes: dict[str, str | None]) -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        answer = await it.authorize(**changes)
        assert (answer.status_code, "location" in answer.headers) == (400, False)
        assert "<b>" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]

    within(body)


def test_a_parameter_given_twice_is_refused() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        for name, value in right_request().items():
            query = urlencode([*right_request().items(), (name, value)])
            answer = await it.browser.get(f"/auth/authorize?{query}")
            if name in ("client_id", "redirect_uri"):
                assert (answer.status_code, "location" in answer.headers) == (400, False)
            else:
                assert sent(answer)["error"] == "invalid_request"
                assert ("state" in sent(answer)) is (name != "state")

    within(body)


def test_when_nothing_can_be_recorded_nothing_is_given() -> None:
    async def body(it: Room) -> None:
        await it.sign_in()
        it.recorder.failing = Unavailable("journal_unavailable", "the disk is full")
        answer = await it.authorize()
        assert (answer.status_code, "location" in answer.headers) == (503, False)

    within(body)


def test_what_strangers_leave_waiting_is_bounded() -> None:
    async def body(it: Room) -> None:
        for _ in range(AT_ONCE):
            it.authorization.arrivals.admit(ORIGIN)
        assert "location" not in (refused := await it.authorize()).headers
        assert (refused.status_code, int(refused.headers["retry-after"])) == (429, 1)
        form = {name: value for name, value in right_request().items() if value}
        for path in ("/auth/par", "/auth/device_authorization"):
            assert (await it.browser.post(path, data=form)).status_code == 429
        assert (await it.browser.post("/auth/logout", data={"client_id": "app"})).status_code == 429
        await it.sign_in()
        assert "code" in sent(await it.authorize())
        it.clock.advance(WITHIN)
        assert (await it.browser.post("/auth/par", data=form)).status_code == 201

    within(body)


_names = st.sampled_from(
    (
        *right_request(),
        *("prompt", "max_age", "claims", "request", "request_uri", "response_mode", "id_token_hint"),
        *("acr_values", "ui_locales", "dpop_jkt", "login_hint", "resource"),
    )
)


@given(
    changes=st.lists(st.tuples(_names, st.one_of(st.text(max_size=30), st.binary(max_size=20))), max_size=5),
    raw=st.binary(max_size=30),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_input_gives_a_5xx_or_a_redirect_to_somewhere_else(
    shared: Callable[[Body], None], changes: list[tuple[str, str | bytes]], raw: bytes
) -> None:
    async def body(it: Room) -> None:
        pairs = [(name, value) for name, value in right_request().items() if value]
        usable = [(n, v.encode("utf-8", "ignore") if isinstance(v, str) else v) for n, v in changes]
        named = {name for name, _ in usable}
        query = urlencode([*(pair for pair in pairs if pair[0] not in named), *usable]) + "&" + urlencode({"x": raw})
        for answer in (
            await it.browser.get(f"/auth/authorize?{query}"),
            await it.browser.get("/auth/authorize?" + quote_from_bytes(raw, safe="%&=+;")),
            await it.browser.post(
                "/auth/authorize", content=raw, headers={"content-type": "application/x-www-form-urlencoded"}
            ),
        ):
            assert answer.status_code in (200, 303, 400)
            location = answer.headers.get("location", ISSUER)
            assert location.startswith((ISSUER, CALLBACK + "?"))

    shared(body)


_PATHS = ("/auth/authorize", "/auth/par", "/auth/device_authorization", "/auth/logout", "/auth/userinfo")
_FORM = "application/x-www-form-urlencoded"


@given(
    path=st.sampled_from(_PATHS),
    method=st.sampled_from(("GET", "POST", "PUT", "OPTIONS", "HEAD")),
    form=st.lists(st.tuples(st.one_of(_names, st.sampled_from(("token", "user_code", "post_logout_redirect_uri"))),
                            st.one_of(st.text(max_size=30), st.binary(max_size=20))), max_size=6),
    raw=st.binary(max_size=40),
    kind=st.sampled_from((_FORM, _FORM, "application/json", "multipart/form-data; boundary=x", "", "\x7f")),
    bearer=st.sampled_from(("", "Bearer x", "DPoP a.b.c", "Basic ====", "Bearer " + "a" * 9000)),
)  # fmt: skip
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_endpoint_breaks(
    shared: Callable[[Body], None],
    path: str,
    method: str,
    form: list[tuple[str, str | bytes]],
    raw: bytes,
    kind: str,
    bearer: str,
) -> None:
    async def body(it: Room) -> None:
        pairs = [(name, v.encode("utf-8", "ignore") if isinstance(v, str) else v) for name, v in form]
        content = urlencode([("client_id", "app"), *pairs]).encode() + b"&" + raw
        headers = {"content-type": kind, "authorization": bearer} if bearer else {"content-type": kind}
        query = quote_from_bytes(content, safe="%&=+;")
        answer = await it.browser.request(method, f"{path}?{query}", content=content, headers=headers)
        assert answer.status_code < 500, answer.text
        assert answer.headers.get("location", ISSUER).startswith((ISSUER, CALLBACK))

    shared(body)


def _reasons() -> set[str]:
    """What a person may be shown of a request that can't be answered by a redirect."""
    found: set[str] = set()
    for module in ("authorize_api", "logout", "logout_api", "parameters"):
        tree = ast.parse((Path(answers.__file__).parent / f"{module}.py").read_text())
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or function.name in (
                "push",
                "_invalid",
            ):
                continue
            for node in ast.walk(function):
                match node:
                    case ast.Call(func=ast.Name(id="BadInput"), args=[_, ast.Constant(value=str(reason)), *_]):
                        found.add(reason)
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_is_told_in_the_language_of_the_page(language: str) -> None:
    reasons = _reasons()
    assert len(reasons) >= 11
    texts = catalogue(language)
    assert {reason for reason in reasons if answers.reason_key(reason) not in texts} == set()


def test_a_page_for_what_cant_be_answered_speaks_the_visitors_language() -> None:
    def page(headers: dict[str, str], query: str = "") -> str:
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        request = Request({"type": "http", "method": "GET", "headers": raw, "query_string": query.encode()})
        error = BadInput("unknown_client", "this application is not registered here")
        return bytes(answers.error_page(request, error).body).decode()

    french = "Cette application n’est pas enregistrée ici."
    assert french in page({"accept-language": "fr-CA,en;q=0.5"})
    assert french in page({"accept-language": "en", "cookie": "__Host-rempart-language=fr"})
    assert french in page({"accept-language": "de"}, "ui_locales=fr")
    assert '<html lang="fr">' in page({"accept-language": "fr"})
    assert "This application is not registered here." in page({"accept-language": "en;q=1, fr;q=0.2"})
    for wrong in ("<script>", "é" * 400, ";;;", "fr;q=9"):
        assert "<script>alert" not in page({"accept-language": wrong})


def test_a_reason_without_a_text_is_told_by_its_status() -> None:
    request = Request({"type": "http", "method": "GET", "headers": [(b"accept-language", b"fr")], "query_string": b""})
    body = bytes(answers.error_page(request, Unavailable("store_unavailable", "gone")).body).decode()
    assert "gone" not in body
    assert catalogue("fr")["error.status.503"] in body.replace("&#x27;", "'")
